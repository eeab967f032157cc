"""HTTPRoutes: 2026-07-28 requests by exact tool and prompt name to their owner, everything else to the gateway.

The Gateway API allows 16 rules in a route, 64 matches in a rule, and 128 matches in all rules of a route
(validation of `HTTPRouteRule` in the CRD), so a service may need several routes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

_IN_A_RULE, _IN_A_ROUTE = 64, 128
_VERSION = "2026-07-28"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Backend:
    """A Kubernetes Service and what it owns, as (method, name) pairs such as ("tools/call", "crm_get")."""

    service: str
    port: int
    names: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Placement:
    """Where the routes go.

    Attributes:
        gateway: name of the Gateway that they attach to.
        hostnames: for which hosts; none means all of the Gateway's.
    """

    gateway: str
    namespace: str
    hostnames: tuple[str, ...] = ()


def http_routes(
    backends: Sequence[Backend], fallback: Backend, placement: Placement
) -> Iterator[dict[str, Any]]:
    """Yield the routes: `fleet-<service>-<n>` for the names of each service, and `fleet` for the rest."""
    for backend in backends:
        for number, names in enumerate(_parts(sorted(backend.names), _IN_A_ROUTE)):
            rules = [
                {
                    "matches": [_match(method, name) for method, name in part],
                    "backendRefs": [_reference(backend)],
                }
                for part in _parts(names, _IN_A_RULE)
            ]
            yield _route(f"fleet-{backend.service}-{number}", rules, placement)
    yield _route(
        "fleet",
        [
            {
                "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
                "backendRefs": [_reference(fallback)],
            }
        ],
        placement,
    )


def _parts(names: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(names), size):
        yield names[start : start + size]


def _match(method: str, name: str) -> dict[str, Any]:
    # Older clients' headers must not be believed, so the version is part of the match.
    headers = {"Mcp-Protocol-Version": _VERSION, "Mcp-Method": method, "Mcp-Name": name}
    return {
        "path": {"type": "Exact", "value": "/mcp"},
        "method": "POST",
        "headers": [
            {"type": "Exact", "name": header, "value": value} for header, value in headers.items()
        ],
    }


def _reference(backend: Backend) -> dict[str, Any]:
    return {"name": backend.service, "port": backend.port}


def _route(name: str, rules: list[dict[str, Any]], placement: Placement) -> dict[str, Any]:
    spec: dict[str, Any] = {"parentRefs": [{"name": placement.gateway}], "rules": rules}
    if placement.hostnames:
        spec["hostnames"] = list(placement.hostnames)
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {
            "name": name,
            "namespace": placement.namespace,
            "labels": {"app.kubernetes.io/part-of": "mcp-fleet"},
        },
        "spec": spec,
    }
