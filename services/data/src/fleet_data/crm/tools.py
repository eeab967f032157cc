"""The CRM as a model sees it: search, get, upsert and delete, generic over the object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from fastmcp.dependencies import Depends
from fastmcp.tools import ToolResult, tool
from pydantic import BaseModel, Field, WithJsonSchema

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
    AlikeFilter,
    AlikeObject,
    FilterParam,
    ObjectParam,
    not_theirs,
)
from fleet_data.crm.deletion import MOST, Deletion
from fleet_data.crm.filters import Filter
from fleet_data.crm.models import Detail, ObjectName, Page, Upserted
from fleet_data.crm.objects import OBJECTS
from fleet_data.crm.service import Crm
from fleet_data.crm.showing import fenced, warned
from fleet_data.deps import Deps, get_caller, get_crm

_SEARCH_CHARS = 500  # of a free text in a list; crm_get returns the whole
_RELATED = 100  # related records of one object that come with records


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
            description="Field, `-field` or `relevance`; newest first by default.",
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
        extra=warned(page.rows),
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
    object: AlikeObject,  # noqa: A002 - the name callers know
    ids: Annotated[list[UUID], Field(min_length=1, max_length=100, description="Ids.")],
    fields: Fields = None,
    include: Annotated[
        list[ObjectName],
        Field(max_length=5),
        WithJsonSchema(
            {
                "type": "array",
                "items": {"type": "string"},
                "description": "Related records, too: objects, such as company or deal.",
            }
        ),
    ] = [],  # noqa: B006 - never changed
    grant: Grant = CurrentGrant(),
    caller: Caller = Depends(get_caller),
    crm: Crm = Depends(get_crm),
) -> ToolResult:
    """Return records by id, all fields by default; `missing_ids` are not there for this caller. Changes nothing."""
    most = grant.rows(len(ids))
    if most < len(ids):
        raise InvalidInput(f"ids: your roles read at most {most} records at once")
    found = await crm.get(caller, object, ids, fields=fields)
    related = {
        each: _included(await crm.related(caller, object, each, ids, limit=grant.rows(_RELATED)))
        for each in dict.fromkeys(include)
    }
    return table(
        found.page.columns,
        fenced(found.page, at_most=None),
        extra={"missing_ids": list(found.missing_ids), **warned(found.page.rows)},
        beside={"included": related} if related else None,
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
            description="id, email (contact, lead), domain (company), name (segment).",
        ),
    ] = "id",
    if_version: Annotated[
        int | None,
        Field(ge=1, description="Only at this version; records may have their own `version`."),
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
    ids: list[UUID] | None = None
    filter: Filter | None = None
    if_version: int | None = None
    dry_run: bool = False
    idempotency_key: str | None = None

    def call(self, caller: Caller) -> Deletion:
        """Return the call that these are.

        Raises:
            InvalidInput: neither ids nor a filter are given, or both are, or a version of many records.
        """
        if (self.ids is None) == (self.filter is None):
            raise InvalidInput("give either ids or filter")
        if self.if_version is not None and len(self.ids or ()) != 1:
            raise InvalidInput("if_version goes with one id")
        key, dry_run = self.idempotency_key, self.dry_run
        ids = self.ids or []
        return Deletion(caller, self.object, ids, self.filter, self.if_version, key, dry_run)


async def plan_crm_delete(arguments: DeletionArguments, grant: Grant, deps: Deps) -> Plan | None:
    """Return which records would be deleted, for whoever is asked to approve it."""
    if arguments.dry_run:
        return None
    return await deps.crm.plan_deletion(arguments.call(get_caller(grant)))


@needs_approval(plan=plan_crm_delete)
@tool(
    title="Delete CRM records",
    meta=touches("private"),
    annotations=DESTROYS,
    output_schema=TABLE_SCHEMA,
    tags={"crm"},
)
async def crm_delete(  # noqa: PLR0917 - parameters of a tool are named
    object: AlikeObject,  # noqa: A002 - the name callers know
    ids: Annotated[
        list[UUID] | None, Field(min_length=1, max_length=MOST, description="Ids; or filter.")
    ] = None,
    filter: AlikeFilter = None,  # noqa: A002 - as above
    if_version: Annotated[
        int | None, Field(ge=1, description="With one id: only at this version.")
    ] = None,
    dry_run: DryRun = False,
    idempotency_key: IdempotencyKey = None,
    plan: Plan | None = CurrentPlan(),
    grant: Grant = CurrentGrant(),
    caller: Caller = Depends(get_caller),
    crm: Crm = Depends(get_crm),
) -> ToolResult:
    """Delete up to 500 records, after a person has seen which; nothing that points at them goes. crm_undo undoes it."""
    _may_define(object, grant)
    told = DeletionArguments(
        object=object,
        ids=ids,
        filter=filter,
        if_version=if_version,
        dry_run=dry_run,
        idempotency_key=idempotency_key,
    )
    planned = plan.object_version if plan else None
    deleted = await crm.delete(told.call(caller), planned_version=planned)
    facts = {"change_set_id": deleted.change_set_id, "dry_run": deleted.dry_run}
    return table(["id", "outcome", "version"], deleted.rows, extra=facts)


TOOLS = (crm_describe, crm_search, crm_get, crm_upsert, crm_delete)


def _may_define(name: str, grant: Grant) -> None:
    """Raise unless the caller may change what everybody's records consist of.

    Raises:
        PermissionDenied: custom properties are for administrators.
    """
    if name in not_theirs(grant):
        raise PermissionDenied("properties are defined by roles with the scope data:admin")


def _included(page: Page) -> dict[str, Any]:
    """Return related records as the text shows them."""
    rows = fenced(page, at_most=_SEARCH_CHARS)
    more = {"truncated": True} if page.next_cursor else {}
    return {"columns": page.columns, "rows": rows, **more}


def _outcomes(result: Upserted) -> ToolResult:
    columns = ["row", "outcome", "id", "version", "detail"]
    rows = [[row.index, row.outcome, row.id, row.version, row.detail] for row in result.rows]
    facts = {
        "change_set_id": result.change_set_id,
        "dry_run": result.dry_run,
        "counts": dict(result.counts),
    }
    return table(columns, rows, extra=facts)
