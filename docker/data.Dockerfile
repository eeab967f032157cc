# The data service: docker build -f docker/data.Dockerfile -t fleet/data:0.1.0 .
# Behind a proxy with its own CA: add --secret id=ca,src=FILE; nothing of it lands in the image.
FROM python:3.13-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CACHE_DIR=/var/cache/pip
WORKDIR /build
RUN python3 -m venv /opt/venv
COPY requirements requirements
COPY libs/common libs/common
COPY services/data services/data
RUN --mount=type=cache,target=/var/cache/pip --mount=type=secret,id=ca,required=false \
    if [ -s /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi; \
    /opt/venv/bin/pip install -c requirements/constraints.txt "./libs/common[tracing]" "./services/data[train]"

FROM python:3.13-slim
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 FLEET_DATA_HOST=0.0.0.0
# A number, so that Kubernetes can see that it is not root.
USER 10001:10001
EXPOSE 8081
CMD ["python3", "-m", "fleet_data", "serve"]
