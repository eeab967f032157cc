"""`fleet_status`: is the fleet well, and who offers what."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

from fastmcp.dependencies import Depends
from fastmcp.tools import tool
from mcp_types import ToolAnnotations
from pydantic import BaseModel, Field

from fleet_common.mcp import touches
from fleet_gateway.balancing.service import Pool
from fleet_gateway.deps import Deps, get_deps
from fleet_gateway.registry.models import ServiceState


class ServiceStatus(BaseModel):
    """One service."""

    name: str
    version: str = Field(description="Version that answered last; empty if none ever did.")
    ready: bool = Field(description="Whether it answered and said that it is ready.")
    tools: int = Field(description="Tools it offers, before any caller's rights.")
    held: list[str] = Field(
        description="Tools held back because their definition changed within one version."
    )
    endpoints: int = Field(description="Endpoints it has.")
    zones: dict[str, int] = Field(description="Endpoints by zone, where the cluster says it.")
    ejected: int = Field(description="Endpoints left alone for a while after failures.")
    breaker: Literal["closed", "open", "half_open"] = Field(
        description="Open means that the service is left alone for a few seconds."
    )
    seen_seconds_ago: float | None = Field(description="Age of this knowledge; null if never seen.")


class FleetStatus(BaseModel):
    """The fleet."""

    ready: bool = Field(description="Whether every service is ready.")
    services: list[ServiceStatus]


@tool(
    title="Fleet status",
    meta=touches(),
    annotations=ToolAnnotations(
        read_only_hint=True, idempotent_hint=True, destructive_hint=False, open_world_hint=False
    ),
)
async def fleet_status(deps: Deps = Depends(get_deps)) -> FleetStatus:
    """Show which services of the fleet are ready, and their versions, endpoints and tools.

    Use it when calls fail as `unavailable` or when a tool is missing. It changes nothing.
    """
    services = [
        _status(name, state, deps.pools[name])
        for name, state in deps.registry.catalogue.services.items()
    ]
    return FleetStatus(ready=all(s.ready for s in services), services=services)


def _status(name: str, state: ServiceState, pool: Pool) -> ServiceStatus:
    age = (datetime.now(UTC) - state.seen_at).total_seconds() if state.seen_at else None
    return ServiceStatus(
        name=name,
        version=state.offer.version,
        ready=state.is_ready,
        tools=len(state.offer.tools),
        held=sorted(state.offer.held),
        endpoints=len(pool.endpoints),
        zones=pool.zones,
        ejected=pool.ejected,
        breaker=pool.breaker.state,
        seen_seconds_ago=None if age is None else round(age, 1),
    )
