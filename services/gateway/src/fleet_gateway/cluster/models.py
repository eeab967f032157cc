"""What the labels and annotations of a Kubernetes Service say, and where its pods are.

Service `crm` with the label `mcp-fleet.dev/service: data` is the fleet's service `data`; several Services may share a
name, and calls are balanced over the pods of all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from fleet_gateway.balancing.models import Address
from fleet_gateway.cluster.client import Kind, Object
from fleet_gateway.settings import is_service_name

log = structlog.get_logger()

SERVICE = "mcp-fleet.dev/service"
PORT = "mcp-fleet.dev/port"
PATH = "mcp-fleet.dev/path"
FALLBACK_FOR = "mcp-fleet.dev/fallback-for"
VERSION = "app.kubernetes.io/version"
_OWNER = "kubernetes.io/service-name"  # what the controller writes on an EndpointSlice

SERVICES = Kind("api/v1", "services", SERVICE)
SLICES = Kind("apis/discovery.k8s.io/v1", "endpointslices", _OWNER)
_USUAL_PORT = "http"


@dataclass(frozen=True, slots=True)
class Found:
    """One service of the fleet as the cluster describes it.

    Attributes:
        endpoints: its ready pods, and the zone of each, "" where the cluster has none.
        version: what it says of itself where its MCP server does not.
        fallback_for: globs of tool names whose calls it takes when their owner is unavailable.
    """

    endpoints: Mapping[Address, str]
    version: str = ""
    fallback_for: tuple[str, ...] = ()


def found_in(
    services: Iterable[Object], slices: Iterable[Object], namespace: str
) -> dict[str, Found]:
    """Return the fleet's services by name."""
    owned: dict[str, list[Object]] = {}
    for each in slices:
        owned.setdefault(_labels(each).get(_OWNER, ""), []).append(each)
    found: dict[str, Found] = {}
    for service in sorted(services, key=lambda each: str(each["metadata"]["name"])):
        name = _labels(service).get(SERVICE, "")
        if not is_service_name(name):
            log.warning("service_label_ignored", service=service["metadata"]["name"], label=name)
            continue
        one = _found(service, owned.get(service["metadata"]["name"], ()), namespace)
        found[name] = _joined(found[name], one) if name in found else one
    return found


def _joined(one: Found, other: Found) -> Found:
    return Found(
        {**one.endpoints, **other.endpoints},
        one.version if one.version == other.version else "",
        (*one.fallback_for, *other.fallback_for),
    )


def _found(service: Object, slices: Iterable[Object], namespace: str) -> Found:
    notes = service["metadata"].get("annotations") or {}
    globs = (glob.strip() for glob in notes.get(FALLBACK_FOR, "").split(","))
    port = _port(service, notes.get(PORT, _USUAL_PORT))
    endpoints: dict[Address, str] = {}
    if port is None:
        log.warning("service_without_port", service=service["metadata"]["name"])
    else:
        path = notes.get(PATH, "/mcp")
        endpoints = dict(_endpoints(service, port, path, slices, namespace))
    return Found(
        endpoints, _labels(service).get(VERSION, ""), tuple(glob for glob in globs if glob)
    )


def _port(service: Object, name: str) -> Mapping[str, Any] | None:
    ports = service["spec"].get("ports") or []
    named = (port for port in ports if port.get("name") == name)
    only = ports[0] if len(ports) == 1 else None
    return next(named, only)


def _endpoints(
    service: Object,
    port: Mapping[str, Any],
    path: str,
    slices: Iterable[Object],
    namespace: str,
) -> Iterator[tuple[Address, str]]:
    name = service["metadata"]["name"]
    # A pod of a dual-stack Service is in a slice of either family: take the Service's first.
    family = (service["spec"].get("ipFamilies") or ["IPv4"])[0]
    is_tls = port.get("appProtocol") == "https"
    for each in slices:
        numbers = [
            own["port"]
            for own in each.get("ports") or ()
            if (own.get("name") or "") == port.get("name", "") and own.get("port")
        ]
        if each.get("addressType") != family or not numbers:
            continue
        for endpoint in each.get("endpoints") or ():
            if not _is_ready(endpoint):
                continue
            host = endpoint["addresses"][0]  # no meaning is defined for more (EndpointSlice v1)
            netloc = f"[{host}]" if family == "IPv6" else host
            yield (
                Address(
                    f"{'https' if is_tls else 'http'}://{netloc}:{numbers[0]}",
                    f"{name}:{port['port']}",
                    f"{name}.{namespace}.svc" if is_tls else None,
                    path,
                ),
                endpoint.get("zone") or "",
            )


def _is_ready(endpoint: Mapping[str, Any]) -> bool:
    # "A nil value should be interpreted as true" (EndpointSlice v1).
    return (endpoint.get("conditions") or {}).get("ready") is not False


def _labels(item: Object) -> Mapping[str, str]:
    return item["metadata"].get("labels") or {}
