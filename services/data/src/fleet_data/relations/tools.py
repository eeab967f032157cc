"""Relations as a model sees them: linking, finding duplicates, merging."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastmcp.dependencies import Depends
from fastmcp.tools import ToolResult, tool
from pydantic import BaseModel, Field

from fleet_common.approvals import Plan, needs_approval
from fleet_common.mcp import TABLE_SCHEMA, CurrentGrant, table, touches
from fleet_common.mcp.params import DryRun, IdempotencyKey, Limit
from fleet_common.policy import Grant
from fleet_data.claims import Caller
from fleet_data.crm.annotations import DESTROYS, READS, WRITES, AlikeObject
from fleet_data.crm.showing import warned
from fleet_data.deps import Deps, get_caller, get_relations
from fleet_data.relations.models import Link, Linked, MergeableName, Merged, Merging
from fleet_data.relations.service import Relations

_COLUMNS = ("id", "other_id", "label", "other_label", "likeness", "shared")


@tool(title="Link two records", meta=touches("private"), annotations=WRITES, tags={"crm"})
async def crm_link(  # noqa: PLR0917 - parameters of a tool are named
    from_object: AlikeObject,
    from_id: Annotated[UUID, Field(description="Id of it.")],
    type: Annotated[  # noqa: A002 - the name callers know
        str, Field(max_length=40, description="Such as decision_maker.")
    ],
    to_object: AlikeObject,
    to_id: Annotated[UUID, Field(description="Id of it.")],
    remove: Annotated[bool, Field(description="Remove it.")] = False,
    dry_run: DryRun = False,
    idempotency_key: IdempotencyKey = None,
    caller: Caller = Depends(get_caller),
    relations: Relations = Depends(get_relations),
) -> Linked:
    """Connect two records by a typed link, or remove it; crm_search finds links as the object `link`."""
    link = Link(from_object, from_id, type, to_object, to_id)
    return await relations.link(caller, link, remove=remove, key=idempotency_key, dry_run=dry_run)


@tool(
    title="Find duplicate records",
    meta=touches("untrusted", "private"),
    annotations=READS,
    output_schema=TABLE_SCHEMA,
    tags={"crm"},
)
async def crm_find_duplicates(
    object: Annotated[MergeableName, Field(description="Kind of record.")],  # noqa: A002 - the name callers know
    limit: Limit = 50,
    grant: Grant = CurrentGrant(),
    caller: Caller = Depends(get_caller),
    relations: Relations = Depends(get_relations),
) -> ToolResult:
    """Return pairs of records that may be the same, by phone, site, or name and company; then use crm_merge.

    `likeness` of the names is 0 to 1. Changes nothing.
    """
    pairs = await relations.duplicates(caller, object, limit=grant.rows(limit))
    rows = [[*each.ids, *each.labels, each.likeness, list(each.shared)] for each in pairs]
    return table(_COLUMNS, rows, extra=warned(rows))


class MergeArguments(BaseModel):
    """What a plan needs to know of a call of crm_merge."""

    object: MergeableName
    winner: UUID
    losers: Annotated[list[UUID], Field(min_length=1, max_length=20)]
    dry_run: bool = False
    idempotency_key: str | None = None


async def plan_crm_merge(arguments: MergeArguments, grant: Grant, deps: Deps) -> Plan | None:
    """Return what would be merged, for whoever is asked to approve it."""
    if arguments.dry_run:
        return None
    merging = Merging(arguments.object, arguments.winner, arguments.losers)
    return await deps.relations.plan_merge(get_caller(grant), merging, arguments.idempotency_key)


@needs_approval(plan=plan_crm_merge)
@tool(title="Merge duplicate records", meta=touches("private"), annotations=DESTROYS, tags={"crm"})
async def crm_merge(  # noqa: PLR0917 - parameters of a tool are named
    object: Annotated[MergeableName, Field(description="Kind of record.")],  # noqa: A002 - the name callers know
    winner: Annotated[UUID, Field(description="Id that stays.")],
    losers: Annotated[list[UUID], Field(min_length=1, max_length=20, description="Ids that go.")],
    dry_run: DryRun = False,
    idempotency_key: IdempotencyKey = None,
    caller: Caller = Depends(get_caller),
    relations: Relations = Depends(get_relations),
) -> Merged:
    """Merge duplicates: the winner keeps its values, gets what it lacks, and all that points at the losers.

    The losers are deleted. A person is asked first; crm_undo undoes it.
    """
    merging = Merging(object, winner, losers)
    return await relations.merge(caller, merging, key=idempotency_key, dry_run=dry_run)


TOOLS = (crm_link, crm_find_duplicates, crm_merge)
