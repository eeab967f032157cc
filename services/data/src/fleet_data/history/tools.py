"""History as a model sees it: who changed what, and undoing a change set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

from fastmcp.dependencies import Depends
from fastmcp.tools import ToolResult, tool
from pydantic import BaseModel, Field

from fleet_common.approvals import Plan, needs_approval
from fleet_common.mcp import TABLE_SCHEMA, CurrentGrant, fence, table, touches
from fleet_common.mcp.params import Cursor, DryRun, IdempotencyKey, Limit
from fleet_common.policy import Grant
from fleet_data.claims import Caller
from fleet_data.crm.annotations import DESTROYS, READS, AlikeObject, not_theirs
from fleet_data.crm.objects import OBJECTS
from fleet_data.crm.showing import warned
from fleet_data.deps import Deps, get_caller, get_history
from fleet_data.history.models import Undone
from fleet_data.history.service import History, undo_call

_FEW = 20  # records that are undone without asking: no more than one looks over at a glance
_CHARS = 500

ChangeSetId = Annotated[UUID, Field(description="From a change or crm_history.")]


@tool(
    title="History of a CRM record",
    meta=touches("untrusted", "private"),
    annotations=READS,
    output_schema=TABLE_SCHEMA,
    tags={"crm"},
)
async def crm_history(  # noqa: PLR0917 - parameters of a tool are named
    object: AlikeObject,  # noqa: A002 - the name callers know
    id: Annotated[UUID, Field(description="Id of the record; it may be deleted.")],  # noqa: A002 - as above
    limit: Limit = 50,
    cursor: Cursor = None,
    grant: Grant = CurrentGrant(),
    caller: Caller = Depends(get_caller),
    history: History = Depends(get_history),
) -> ToolResult:
    """Return who changed a record, when and with which tool, newest first; changes are {field: [before, after]}."""
    page = await history.of_record(caller, object, id, limit=grant.rows(limit), cursor=cursor)
    rows = [[*row[:-1], _fenced(object, row[-1])] for row in page.rows]
    more = page.next_cursor is not None
    return table(
        page.columns, rows, truncated=more, next_cursor=page.next_cursor, extra=warned(rows)
    )


class UndoArguments(BaseModel):
    """What a plan needs to know of a call of crm_undo."""

    change_set_id: UUID
    dry_run: bool = False
    idempotency_key: str | None = None


async def plan_crm_undo(arguments: UndoArguments, grant: Grant, deps: Deps) -> Plan | None:
    """Return what would be put back, for whoever is asked to approve it; a few records need nobody."""
    if arguments.dry_run:
        return None
    change_set, key = arguments.change_set_id, arguments.idempotency_key
    call = undo_call(get_caller(grant), change_set, key, dry_run=False)
    plan = await deps.history.plan_undo(call, change_set)
    few = plan is not None and sum(map(int, plan.details.values())) <= _FEW
    return None if few else plan


@needs_approval(plan=plan_crm_undo)
@tool(title="Undo a change", meta=touches("private"), annotations=DESTROYS, tags={"crm"})
async def crm_undo(  # noqa: PLR0917 - parameters of a tool are named
    change_set_id: ChangeSetId,
    dry_run: DryRun = False,
    idempotency_key: IdempotencyKey = None,
    grant: Grant = CurrentGrant(),
    caller: Caller = Depends(get_caller),
    history: History = Depends(get_history),
) -> Undone:
    """Put every record of a change set back to what it was before that change, all of them or none.

    Refused, naming the records, when one was changed since. A person is asked for more than 20.
    """
    call = undo_call(caller, change_set_id, idempotency_key, dry_run=dry_run)
    return await history.undo(call, change_set_id, but=not_theirs(grant))


TOOLS = (crm_history, crm_undo)


def _fenced(name: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the differences with free text marked as untrusted."""
    own = OBJECTS[name].fields
    return {
        field: [
            fence(value[:_CHARS])
            if isinstance(value, str) and (field not in own or own[field].free_text)
            else value
            for value in pair
        ]
        for field, pair in changes.items()
    }
