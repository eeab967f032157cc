# mcp-fleet: CRM, SQL, exports and connectors on PostgreSQL: scripts/images data
# Behind a proxy with a CA of its own: add --secret id=ca,src=FILE; nothing of it lands in the image.
FROM python:3.13-slim AS build
ARG VERSION=0
# With `parquet,train` it also learns to score leads, which takes SciPy and scikit-learn: scripts/images data-train.
ARG EXTRAS=parquet
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_CACHE_DIR=/var/cache/pip
WORKDIR /build
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends binutils && rm -rf /var/lib/apt/lists/* && \
    python3 -m venv /opt/venv
COPY requirements requirements
COPY docker/trim.sh docker/sbom.py docker/
COPY libs/common libs/common
COPY services/data services/data
RUN --mount=type=cache,target=/var/cache/pip --mount=type=secret,id=ca,required=false \
    if [ -s /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi; \
    /opt/venv/bin/pip install -c requirements/constraints.txt "./libs/common[tracing]" "./services/data[$EXTRAS]" && \
    docker/trim.sh /opt/venv && \
    apt-get purge -qq -y --auto-remove binutils && \
    /opt/venv/bin/python docker/sbom.py fleet/data "$VERSION" > /opt/venv/sbom.cdx.json

FROM python:3.13-slim
ARG VERSION=0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="fleet/data" \
      org.opencontainers.image.description="mcp-fleet: CRM, SQL, exports and connectors on PostgreSQL" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.licenses="Apache-2.0" \
      dev.mcp-fleet.sbom="/opt/venv/sbom.cdx.json"
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 FLEET_DATA_HOST=0.0.0.0
# A number, so that Kubernetes can see that it is not root.
USER 10001:10001
EXPOSE 8081
CMD ["python3", "-m", "fleet_data", "serve"]
