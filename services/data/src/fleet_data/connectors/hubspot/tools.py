"""The sync as a model sees it: start one, and see what became of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal
from uuid import UUID

from fastmcp import Context
from fastmcp.dependencies import CurrentContext, Depends
from fastmcp.tools import ToolResult, tool
from mcp_types import ToolAnnotations
from pydantic import AwareDatetime, BaseModel, Field

from fleet_common.approvals import Plan, needs_approval
from fleet_common.errors import InvalidInput
from fleet_common.mcp import TABLE_SCHEMA, CurrentGrant, CurrentPlan, fence, table, touches
from fleet_common.mcp.declared import SCOPE_META
from fleet_common.mcp.params import Cursor, DryRun, IdempotencyKey, Limit
from fleet_common.policy import Grant
from fleet_common.tasks import running_task
from fleet_data.claims import Caller
from fleet_data.connectors.hubspot.models import Direction, Request, Run
from fleet_data.connectors.hubspot.service import HubSpotSync
from fleet_data.connectors.hubspot.syncing import STEPS
from fleet_data.deps import Deps, get_caller, get_hubspot

_SYNCS = ToolAnnotations(
    read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=True
)
_READS = ToolAnnotations(
    read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)
_LOOK_S = 1.0
_PREVIEWED = 20  # batches of each object that a dry run looks at
_COLUMNS = (
    *("object", "kind", "record_id", "external_id", "fields"),
    *("winner", "message", "times", "last_at"),
)

Name = Annotated[Literal["hubspot"], Field(description="Connector.")]


@dataclass(frozen=True, slots=True)
class SyncAnswer:
    """How a sync stands: `counts` of what was pulled, pushed, left alone and reported."""

    state: str
    sync_id: str | None = None
    counts: dict[str, int] = field(default_factory=dict)
    waits_for: str | None = None


class SyncArguments(BaseModel):
    """What a plan needs to know of a call of connector_sync."""

    name: Literal["hubspot"]
    direction: Direction = "both"
    since: AwareDatetime | None = None
    apply_deletes: bool = False
    dry_run: bool = False
    idempotency_key: str | None = None


async def plan_sync(arguments: SyncArguments, grant: Grant, deps: Deps) -> Plan | None:
    """Return what would be written at HubSpot, for whoever is asked to approve it."""
    if arguments.dry_run:
        return None
    since = arguments.since.isoformat() if arguments.since else None
    request = Request(arguments.direction, since, arguments.apply_deletes)
    return await deps.hubspot.plan(get_caller(grant), request)


@needs_approval(plan=plan_sync)
@tool(
    title="Sync with a connected system",
    meta={SCOPE_META: "data:admin", **touches("private", "public")},
    annotations=_SYNCS,
    tags={"connector"},
    task=True,
)
async def connector_sync(  # noqa: PLR0917 - parameters of a tool are named
    name: Name,  # noqa: ARG001 - the only one so far
    direction: Annotated[Direction, Field(description="Both ways, or one of them.")] = "both",
    since: Annotated[
        AwareDatetime | None,
        Field(description="Look at all since then, not since the last sync."),
    ] = None,
    apply_deletes: Annotated[
        bool, Field(description="Delete what the other side deleted, too.")
    ] = False,
    dry_run: DryRun = False,
    idempotency_key: IdempotencyKey = None,
    plan: Plan | None = CurrentPlan(),  # noqa: ARG001 - what was approved is how much, not which records
    ctx: Context = CurrentContext(),
    caller: Caller = Depends(get_caller),
    hubspot: HubSpotSync = Depends(get_hubspot),
) -> SyncAnswer:
    """Bring contacts, companies and deals here and at HubSpot to the same state; writing there asks a person.

    Goes on in the background, also after a restart; connector_sync_status follows it and lists what clashed.
    """
    request = Request(direction, since.isoformat() if since else None, apply_deletes)
    if dry_run:
        counts = await hubspot.preview(caller, request, pages=_PREVIEWED)
        return SyncAnswer("dry_run", counts=dict(counts))
    task = running_task()  # a task that is run again must find its own sync on its way
    key = idempotency_key or (task.id if task else None)
    id_ = await hubspot.start(caller, request, key=key)
    return _answer(await _followed(hubspot, caller, id_, ctx.report_progress))


@tool(
    title="How a sync stands",
    meta={SCOPE_META: "data:read", **touches("untrusted", "private")},
    annotations=_READS,
    output_schema=TABLE_SCHEMA,
    tags={"connector"},
)
async def connector_sync_status(  # noqa: PLR0917 - parameters of a tool are named
    name: Name,  # noqa: ARG001 - the only one so far
    limit: Limit = 50,
    cursor: Cursor = None,
    grant: Grant = CurrentGrant(),
    caller: Caller = Depends(get_caller),
    hubspot: HubSpotSync = Depends(get_hubspot),
) -> ToolResult:
    """Say how the last sync stands, what waits to be sent, and list what somebody should look at, newest first.

    A conflict names each field that both sides changed, both values and whose stayed. Changes nothing.
    """
    if cursor is not None and not cursor.isdigit():
        raise InvalidInput("the cursor is not one of this tool")
    most = grant.rows(limit)
    status = await hubspot.status(caller)
    before = None if cursor is None else int(cursor)
    found = await hubspot.issues(caller, before=before, limit=most + 1)
    rows = [[_shown(each, column) for column in _COLUMNS] for each in found[:most]]
    facts: dict[str, Any] = {"account": status.account, "waiting": dict(status.waiting)}
    if status.run is not None:
        run = _answer(status.run)
        facts |= {"state": run.state, "counts": run.counts, "waits_for": run.waits_for}
    following = str(found[most - 1]["id"]) if len(found) > most else None
    return table(list(_COLUMNS), rows, next_cursor=following, extra=facts)


TOOLS = (connector_sync, connector_sync_status)


async def _followed(
    hubspot: HubSpotSync,
    caller: Caller,
    id_: UUID,
    report: Callable[[float, float, str], Awaitable[None]],
) -> Run:
    """Return the run: at once in a call, at its end in a task."""
    while True:
        run = await hubspot.run(caller, id_)
        steps = len(STEPS[run.request.direction])
        done = sum(n for what, n in run.counts.items() if what.startswith(("p", "u")))
        await report(min(run.position.step, steps), steps, f"{done} records")
        if running_task() is None or run.state != "queued":
            return run
        await asyncio.sleep(_LOOK_S)


def _answer(run: Run) -> SyncAnswer:
    return SyncAnswer(run.state, str(run.id), dict(run.counts), run.error)


def _shown(issue: dict[str, Any], column: str) -> Any:
    """Return a value of the report; what people wrote at HubSpot or here is no instruction."""
    value = issue[column]
    return fence(str(value)) if column in {"fields", "message"} and value else value
