"""Segments as a model sees them: who would be reached, and who is in a list."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastmcp.dependencies import Depends
from fastmcp.tools import ToolResult, tool
from pydantic import Field

from fleet_common.errors import InvalidInput
from fleet_common.mcp import TABLE_SCHEMA, CurrentGrant, table, touches
from fleet_common.mcp.params import DryRun, IdempotencyKey
from fleet_common.policy import Grant
from fleet_data.claims import Caller
from fleet_data.crm.annotations import READS, WRITES, AlikeFilter, AlikeObject
from fleet_data.crm.filters import InSegment
from fleet_data.crm.showing import fenced, warned
from fleet_data.deps import get_caller, get_segments
from fleet_data.segments.models import Membership
from fleet_data.segments.service import Members, Segments

_CHARS = 500  # of a free text in the sample


@tool(
    title="Preview a segment",
    meta=touches("untrusted", "private"),
    annotations=READS,
    output_schema=TABLE_SCHEMA,
    tags={"segment"},
)
async def segment_preview(  # noqa: PLR0917 - parameters of a tool are named
    object: AlikeObject = "contact",  # noqa: A002 - the name callers know
    filter: AlikeFilter = None,  # noqa: A002 - as above
    segment_id: Annotated[UUID | None, Field(description="Or a segment that there is.")] = None,
    sample: Annotated[int, Field(ge=0, le=20, description="Records to show.")] = 5,
    grant: Grant = CurrentGrant(),
    caller: Caller = Depends(get_caller),
    segments: Segments = Depends(get_segments),
) -> ToolResult:
    """Count whom a filter or segment finds, how many of them marketing may mail, and why not the others.

    Then save the segment with crm_upsert. Changes nothing.
    """
    if (filter is None) == (segment_id is None):
        raise InvalidInput("give either filter or segment_id")
    name = object if segment_id is None else (await segments.find(caller, segment_id)).object
    where = filter if segment_id is None else InSegment(segment=segment_id)
    preview = await segments.preview(caller, name, where, sample=grant.rows(max(sample, 1)))
    rows = fenced(preview.sample, at_most=_CHARS)[:sample]
    counts = preview.counts
    facts: dict[str, Any] = {"object": name, "size": counts.size}
    if counts.blocked is not None:
        facts |= {"mailable": counts.mailable, "blocked": dict(counts.blocked)}
    return table(preview.sample.columns, rows, extra=facts | warned(rows))


@tool(
    title="Change a list of members", meta=touches("private"), annotations=WRITES, tags={"segment"}
)
async def segment_members(  # noqa: PLR0917 - parameters of a tool are named
    segment_id: Annotated[UUID, Field(description="Static segment.")],
    ids: Annotated[
        list[UUID] | None, Field(min_length=1, max_length=500, description="Records.")
    ] = None,
    filter: AlikeFilter = None,  # noqa: A002 - the name callers know
    remove: Annotated[bool, Field(description="Take them out instead.")] = False,
    dry_run: DryRun = False,
    idempotency_key: IdempotencyKey = None,
    caller: Caller = Depends(get_caller),
    segments: Segments = Depends(get_segments),
) -> Membership:
    """Put records into a static segment, or take them out: by id, or all that a filter finds now."""
    members = Members(segment_id, ids, filter, remove)
    return await segments.change(caller, members, key=idempotency_key, dry_run=dry_run)


TOOLS = (segment_preview, segment_members)
