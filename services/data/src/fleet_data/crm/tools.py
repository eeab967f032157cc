"""The CRM as a model sees it: search, get, upsert and delete, generic over the object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from fastmcp.dependencies import Depends
from fastmcp.tools import ToolResult, tool
from pydantic import BaseModel, Field

from fleet_common.approvals import Plan, needs_approval
from fleet_common.errors import InvalidInput, PermissionDenied
from fleet_common.mcp import TABLE_SCHEMA, CurrentGrant, CurrentPlan, table, touches
from fleet_common.mcp.params import Cursor, DryRun, Fields, IdempotencyKey, Limit
from fleet_common.policy import Grant
from fleet_data.claims import Caller
from fleet_data.crm.annotations import (
    DESTROYS,
    READS,
    WRITES,
    FilterParam,
    ObjectParam,
    not_theirs,
)
from fleet_data.crm.deletion import Deleted, Deletion
from fleet_data.crm.models import Detail, ObjectName, Upserted
from fleet_data.crm.objects import OBJECTS
from fleet_data.crm.service import Crm
from fleet_data.crm.showing import fenced
from fleet_data.deps import Deps, get_caller, get_crm

_SEARCH_CHARS = 500  # of a free text in a list; crm_get returns the whole


@tool(
    title="Search CRM records",
    meta=touches("untrusted", "private"),
    annotations=READS,
    output_schema=TABLE_SCHEMA,
    tags={"crm"},
)
async def crm_search(  # noqa: PLR0917 - parameters of a tool are named
    object: ObjectParam,  # noqa: A002 - the name callers know
    query: Annotated[
        str | None,
        Field(min_length=1, max_length=200, description="Words to find; typos are fine."),
    ] = None,
    filter: FilterParam = None,  # noqa: A002 - the name callers know
    fields: Fields = None,
    sort: Annotated[
        str | None,
        Field(
            max_length=64,
            description="Field, `-field` descending, or `relevance`; newest first by default.",
        ),
    ] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    grant: Grant = CurrentGrant(),
    caller: Caller = Depends(get_caller),
    crm: Crm = Depends(get_crm),
) -> ToolResult:
    """Find records by words and conditions, a page at a time; crm_describe has the fields. Changes nothing."""
    page = await crm.search(
        caller,
        object,
        query=query,
        where=filter,
        fields=fields,
        sort=sort,
        limit=grant.rows(limit),
        cursor=cursor,
    )
    more = page.next_cursor is not None
    return table(
        page.columns,
        fenced(page, at_most=_SEARCH_CHARS),
        truncated=more,
        next_cursor=page.next_cursor,
    )


@dataclass(frozen=True, slots=True)
class Described:
    """What there is to work with."""

    objects: Annotated[
        list[dict[str, Any]], Field(description="Objects with as much of each as was asked for.")
    ]


@tool(
    title="Describe the CRM",
    meta=touches("private"),
    annotations=READS,
    tags={"crm"},
)
async def crm_describe(
    object: Annotated[  # noqa: A002 - the name callers know
        ObjectName | None, Field(description="Kind of record; all by default.")
    ] = None,
    detail: Annotated[
        Detail,
        Field(description="names of objects; fields: theirs, too; full: types and choices."),
    ] = "fields",
    caller: Caller = Depends(get_caller),
    crm: Crm = Depends(get_crm),
) -> Described:
    """Say which objects and fields, custom ones included, the CRM has; deal stages, too. Changes nothing.

    Ask for `full` of an object before writing to it.
    """
    names = [object] if object else list(OBJECTS)
    return Described([await crm.describe(caller, name, detail=detail) for name in names])


@tool(
    title="Read CRM records",
    meta=touches("untrusted", "private"),
    annotations=READS,
    output_schema=TABLE_SCHEMA,
    tags={"crm"},
)
async def crm_get(  # noqa: PLR0917 - parameters of a tool are named
    object: ObjectParam,  # noqa: A002 - the name callers know
    ids: Annotated[list[UUID], Field(min_length=1, max_length=100, description="Ids.")],
    fields: Fields = None,
    grant: Grant = CurrentGrant(),
    caller: Caller = Depends(get_caller),
    crm: Crm = Depends(get_crm),
) -> ToolResult:
    """Return records by id, all fields by default; `missing_ids` are not there for this caller. Changes nothing."""
    most = grant.rows(len(ids))
    if most < len(ids):
        raise InvalidInput(f"ids: your roles read at most {most} records at once")
    found = await crm.get(caller, object, ids, fields=fields)
    return table(
        found.page.columns,
        fenced(found.page, at_most=None),
        extra={"missing_ids": list(found.missing_ids)},
    )


@tool(
    title="Create or update CRM records",
    meta=touches("private"),
    annotations=WRITES,
    output_schema=TABLE_SCHEMA,
    tags={"crm"},
)
async def crm_upsert(  # noqa: PLR0917 - parameters of a tool are named
    object: ObjectParam,  # noqa: A002 - the name callers know
    records: Annotated[
        list[dict[str, Any]],
        Field(
            min_length=1,
            max_length=500,
            description="Fields to set; others stay as they are, null empties.",
        ),
    ],
    match_on: Annotated[
        str,
        Field(
            max_length=64,
            description="What finds a record: id, email (contact, lead), domain (company), name (segment).",
        ),
    ] = "id",
    if_version: Annotated[
        int | None,
        Field(ge=1, description="Only at this version; a record may have its own `version`."),
    ] = None,
    dry_run: DryRun = False,
    idempotency_key: IdempotencyKey = None,
    grant: Grant = CurrentGrant(),
    caller: Caller = Depends(get_caller),
    crm: Crm = Depends(get_crm),
) -> ToolResult:
    """Create records, or update those that `match_on` finds.

    Each row has its outcome: created, updated, unchanged or error; rows without an error are kept. `dry_run` shows the
    differences.
    """
    _may_define(object, grant)
    result = await crm.upsert(
        caller,
        object,
        records,
        match_on=match_on,
        if_version=if_version,
        dry_run=dry_run,
        idempotency_key=idempotency_key,
    )
    return _outcomes(result)


class DeletionArguments(BaseModel):
    """What a plan needs to know of a call of crm_delete."""

    object: ObjectName
    id: UUID
    if_version: int | None = None
    dry_run: bool = False
    idempotency_key: str | None = None


async def plan_crm_delete(arguments: DeletionArguments, grant: Grant, deps: Deps) -> Plan | None:
    """Return which record would be deleted, for whoever is asked to approve it."""
    if arguments.dry_run:
        return None
    call = Deletion(
        get_caller(grant),
        arguments.object,
        arguments.id,
        arguments.if_version,
        arguments.idempotency_key,
    )
    return await deps.crm.plan_deletion(call)


@needs_approval(plan=plan_crm_delete)
@tool(
    title="Delete a CRM record",
    meta=touches("private"),
    annotations=DESTROYS,
    tags={"crm"},
)
async def crm_delete(  # noqa: PLR0917 - parameters of a tool are named
    object: ObjectParam,  # noqa: A002 - the name callers know
    id: Annotated[UUID, Field(description="Id of the record.")],  # noqa: A002 - as above
    if_version: Annotated[
        int | None, Field(ge=1, description="Delete only at this version of the record.")
    ] = None,
    dry_run: DryRun = False,
    idempotency_key: IdempotencyKey = None,
    plan: Plan | None = CurrentPlan(),
    grant: Grant = CurrentGrant(),
    caller: Caller = Depends(get_caller),
    crm: Crm = Depends(get_crm),
) -> Deleted:
    """Delete one record; a person is asked first and sees which one.

    Nothing that points at the record is deleted with it. It can be undone for as long as the change log is kept. Read
    the record before, and pass its `version` as `if_version`.
    """
    _may_define(object, grant)
    call = Deletion(caller, object, id, if_version, idempotency_key, dry_run)
    planned = int(plan.object_version) if plan and plan.object_version else None
    return await crm.delete(call, planned_version=planned)


TOOLS = (crm_describe, crm_search, crm_get, crm_upsert, crm_delete)


def _may_define(name: str, grant: Grant) -> None:
    """Raise unless the caller may change what everybody's records consist of.

    Raises:
        PermissionDenied: custom properties are for administrators.
    """
    if name in not_theirs(grant):
        raise PermissionDenied("properties are defined by roles with the scope data:admin")


def _outcomes(result: Upserted) -> ToolResult:
    columns = ["row", "outcome", "id", "version", "detail"]
    rows = [[row.index, row.outcome, row.id, row.version, row.detail] for row in result.rows]
    facts = {
        "change_set_id": result.change_set_id,
        "dry_run": result.dry_run,
        "counts": dict(result.counts),
    }
    return table(columns, rows, extra=facts)
