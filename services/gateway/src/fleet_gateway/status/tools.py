"""`fleet_status`: is the fleet well, and who offers what."""

from __future__ import annotations

from datetime import UTC, datetime

from fastmcp.dependencies import Depends
from fastmcp.tools import tool
from mcp_types import ToolAnnotations
from pydantic import BaseModel, Field

from fleet_common.mcp import touches
from fleet_gateway.deps import get_registry
from fleet_gateway.registry.service import Registry


class ServiceStatus(BaseModel):
    """One service."""

    name: str
    ready: bool = Field(description="Whether it answered and said that it is ready.")
    tools: int = Field(description="Tools it offers, before any caller's rights.")
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
async def fleet_status(registry: Registry = Depends(get_registry)) -> FleetStatus:
    """Show which services of the fleet are ready. Use it when calls fail as `unavailable`; changes nothing."""
    now = datetime.now(UTC)
    services = [
        ServiceStatus(
            name=name,
            ready=state.is_ready,
            tools=len(state.offer.tools),
            seen_seconds_ago=round((now - state.seen_at).total_seconds(), 1)
            if state.seen_at
            else None,
        )
        for name, state in registry.catalogue.services.items()
    ]
    return FleetStatus(ready=all(s.ready for s in services), services=services)
