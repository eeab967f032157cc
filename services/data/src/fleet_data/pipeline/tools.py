"""The pipeline as a model sees it: reports, moves and conversions."""

from __future__ import annotations

from datetime import date
from typing import Annotated
from uuid import UUID

from fastmcp.dependencies import Depends
from fastmcp.tools import ToolResult, tool
from pydantic import Field

from fleet_common.mcp import TABLE_SCHEMA, CurrentGrant, table, touches
from fleet_common.mcp.params import DryRun, IdempotencyKey
from fleet_common.policy import Grant
from fleet_data.claims import Caller
from fleet_data.crm.annotations import READS, WRITES
from fleet_data.crm.showing import warned
from fleet_data.deps import get_caller, get_pipeline
from fleet_data.pipeline.models import Conversion, Converted, GroupBy, Move, Moved, Report
from fleet_data.pipeline.repository import COLUMNS
from fleet_data.pipeline.service import Pipeline

_MOST_GROUPS = 200


@tool(
    title="Report on the pipeline",
    meta=touches("untrusted", "private"),
    annotations=READS,
    output_schema=TABLE_SCHEMA,
    tags={"crm"},
)
async def crm_pipeline_report(  # noqa: PLR0917 - parameters of a tool are named
    group_by: Annotated[GroupBy, Field(description="What a row stands for.")] = "stage",
    pipeline: Annotated[str, Field(max_length=64, description="Key of the pipeline.")] = "sales",
    since: Annotated[
        date | None, Field(description="First day, of closing or else creation.")
    ] = None,
    until: Annotated[date | None, Field(description="Day after the last.")] = None,
    grant: Grant = CurrentGrant(),
    caller: Caller = Depends(get_caller),
    service: Pipeline = Depends(get_pipeline),
) -> ToolResult:
    """Count and sum deals by stage, owner, month or company: open, weighted, won, win rate, days in stage.

    One row per group and currency. Changes nothing.
    """
    limit = grant.rows(_MOST_GROUPS)
    rows = await service.report(caller, Report(pipeline, group_by, since, until), limit=limit)
    return table(COLUMNS, rows, truncated=len(rows) == limit, extra=warned(rows))


@tool(title="Move a deal", meta=touches("private"), annotations=WRITES, tags={"crm"})
async def crm_deal_move(  # noqa: PLR0917 - parameters of a tool are named
    deal_id: Annotated[UUID, Field(description="Id of the deal.")],
    stage: Annotated[str, Field(max_length=64, description="Key, as in crm_describe.")],
    reason: Annotated[
        str | None,
        Field(
            min_length=3,
            max_length=1000,
            description="Why; needed to lose a deal or open it again.",
        ),
    ] = None,
    if_version: Annotated[int | None, Field(ge=1, description="Only at this version.")] = None,
    dry_run: DryRun = False,
    idempotency_key: IdempotencyKey = None,
    caller: Caller = Depends(get_caller),
    service: Pipeline = Depends(get_pipeline),
) -> Moved:
    """Put a deal into another stage of its pipeline; status, dates and stage history follow.

    The reason is kept as a note of the deal.
    """
    move = Move(deal_id, stage, reason, if_version)
    return await service.move(caller, move, key=idempotency_key, dry_run=dry_run)


@tool(title="Convert a lead", meta=touches("private"), annotations=WRITES, tags={"lead"})
async def lead_convert(  # noqa: PLR0917 - parameters of a tool are named
    lead_id: Annotated[UUID, Field(description="Id of the lead.")],
    create_deal: Annotated[bool, Field(description="Make a deal too.")] = True,
    deal_name: Annotated[
        str | None, Field(max_length=300, description="The company's by default.")
    ] = None,
    amount: Annotated[float | None, Field(ge=0, lt=1e15, description="Value of the deal.")] = None,
    dry_run: DryRun = False,
    idempotency_key: IdempotencyKey = None,
    caller: Caller = Depends(get_caller),
    service: Pipeline = Depends(get_pipeline),
) -> Converted:
    """Turn a lead into a contact, its company and a deal, all of it or nothing.

    An existing contact (by mail address) and company (by domain or name) are used; `created` says what is new.
    """
    conversion = Conversion(lead_id, create_deal, deal_name, amount)
    return await service.convert(caller, conversion, key=idempotency_key, dry_run=dry_run)


TOOLS = (crm_pipeline_report, crm_deal_move, lead_convert)
