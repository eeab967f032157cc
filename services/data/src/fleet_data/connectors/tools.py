"""Connected accounts as a model sees them: which there are, a link to connect one, and an end to it."""

from __future__ import annotations

from typing import Annotated

from fastmcp.dependencies import Depends
from fastmcp.tools import ToolResult, tool
from mcp_types import ToolAnnotations
from pydantic import BaseModel, Field, WithJsonSchema

from fleet_common.approvals import Plan, needs_approval
from fleet_common.mcp import TABLE_SCHEMA, CurrentDeps, CurrentPlan, fence, table, touches
from fleet_common.mcp.declared import SCOPE_META
from fleet_common.policy import Grant
from fleet_data.claims import Caller
from fleet_data.connectors.connecting import Connections, Disconnected, Standing, Started
from fleet_data.connectors.registry import PROVIDERS
from fleet_data.deps import Deps, get_caller

_NAMES = [each.name for each in PROVIDERS]
_READS = ToolAnnotations(
    read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)
_BEGINS = ToolAnnotations(
    read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False
)
_ENDS = ToolAnnotations(
    read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=True
)
_COLUMNS = ("provider", "state", "account", "scopes", "connected_by", "connected_at", "id")

ProviderName = Annotated[
    str,
    Field(description="Whose account."),
    WithJsonSchema({"type": "string", "enum": _NAMES, "description": "Whose account."}),
]


def get_connections(deps: Deps = CurrentDeps()) -> Connections:
    """Return what connects accounts."""
    return deps.connections


class DisconnectArguments(BaseModel):
    """What a plan needs to know of a call of connector_disconnect."""

    provider: str


async def plan_disconnect(arguments: DisconnectArguments, grant: Grant, deps: Deps) -> Plan:
    """Return which account would go, for whoever is asked to approve it."""
    return await deps.connections.plan_disconnect(get_caller(grant), arguments.provider)


@tool(
    title="Connected accounts",
    meta=touches("private", "untrusted"),
    annotations=_READS,
    output_schema=TABLE_SCHEMA,
    tags={"connector"},
)
async def connector_status(
    caller: Caller = Depends(get_caller), connections: Connections = Depends(get_connections)
) -> ToolResult:
    """List the services that accounts can be connected of, and whose account is connected for you now.

    State is connected, withdrawn (connect it again), open (nobody connected one) or off (not set up by the operator).
    """
    return table(_COLUMNS, [_row(each) for each in await connections.standing(caller)])


@tool(
    title="Begin to connect an account",
    meta={SCOPE_META: "data:admin", **touches()},
    annotations=_BEGINS,
    tags={"connector"},
)
async def connector_connect(
    provider: ProviderName,
    caller: Caller = Depends(get_caller),
    connections: Connections = Depends(get_connections),
) -> Started:
    """Return a link that a person opens to connect an account for the whole tenant (LinkedIn: for you alone).

    Nothing is connected until they agree there, within ten minutes. Give the link to nobody but your user. Never ask
    for a password or a key: it is typed into the page.
    """
    return await connections.begin(caller, provider)


@needs_approval(plan=plan_disconnect)
@tool(
    title="Disconnect an account",
    meta={SCOPE_META: "data:admin", **touches("private")},
    annotations=_ENDS,
    tags={"connector"},
)
async def connector_disconnect(
    provider: ProviderName,
    plan: Plan | None = CurrentPlan(),  # noqa: ARG001 - asks for the approval
    caller: Caller = Depends(get_caller),
    connections: Connections = Depends(get_connections),
) -> Disconnected:
    """Forget a connected account and give its consent back; a person is asked first. Mail and syncs through it stop.

    When `revoked` is false its provider did not confirm: end it in the account's own settings, too.
    """
    return await connections.disconnect(caller, provider)


TOOLS = (connector_status, connector_connect, connector_disconnect)


def _row(each: Standing) -> list[object]:
    account = each.account
    if account is None:
        state = "open" if each.is_registered else "off"
        return [each.provider.name, state, None, [], None, None, None]
    state = "withdrawn" if account.withdrawn_at else "connected"
    scopes = list(account.scopes)
    label = fence(account.label)
    who, when = account.connected_by, account.connected_at
    return [each.provider.name, state, label, scopes, who, when, str(account.id)]
