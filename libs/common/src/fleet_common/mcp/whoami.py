"""`fleet_whoami`: the same on every service, so that a caller can see what the fleet takes it for."""

from __future__ import annotations

from fastmcp.tools import tool
from mcp_types import ToolAnnotations
from pydantic import BaseModel, Field

from fleet_common.mcp.declared import touches
from fleet_common.mcp.identity import CurrentGrant
from fleet_common.policy import Grant


class Whoami(BaseModel):
    """The verified caller."""

    subject: str = Field(description="Stable name of the caller.")
    tenant: str = Field(description="Tenant whose data this caller works on.")
    roles: list[str]
    scopes: list[str] = Field(description="What the caller may do, such as data:read.")
    credential: str = Field(description="key, internal or oauth.")


@tool(
    title="Who am I",
    meta=touches(),
    annotations=ToolAnnotations(
        read_only_hint=True, idempotent_hint=True, destructive_hint=False, open_world_hint=False
    ),
)
async def fleet_whoami(grant: Grant = CurrentGrant()) -> Whoami:
    """Show who the fleet takes you for: tenant, roles and scopes. Use it when a tool you expect is missing."""
    principal = grant.principal
    return Whoami(
        subject=principal.subject,
        tenant=principal.tenant,
        roles=sorted(principal.roles),
        scopes=sorted(grant.scopes),
        credential=principal.kind,
    )
