"""Lead scoring as a model sees it."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from fastmcp import Context
from fastmcp.dependencies import CurrentContext, Depends
from fastmcp.tools import ToolResult, tool
from mcp_types import ToolAnnotations
from pydantic import Field

from fleet_common.errors import InvalidInput, PermissionDenied
from fleet_common.mcp import TABLE_SCHEMA, CurrentGrant, table, touches
from fleet_common.mcp.params import Limit
from fleet_common.policy import Grant
from fleet_common.tasks import running_task
from fleet_data.claims import Caller
from fleet_data.crm.annotations import AlikeFilter
from fleet_data.deps import get_caller, get_scoring
from fleet_data.scoring.models import HORIZON_DAYS, Metrics
from fleet_data.scoring.service import Compared, Scored, Scoring

_TRAINING_TIMEOUT_S = 300.0
_WRITE = "data:write"


@tool(
    title="Score leads",
    meta={**touches("untrusted", "private"), "fleet/scope": "data:read"},
    annotations=ToolAnnotations(
        read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False
    ),
    output_schema=TABLE_SCHEMA,
    tags={"lead"},
)
async def lead_score(  # noqa: PLR0917 - parameters of a tool are named
    ids: Annotated[
        list[UUID] | None, Field(min_length=1, max_length=200, description="Leads; or filter.")
    ] = None,
    filter: AlikeFilter = None,  # noqa: A002 - the name callers know
    explain: Annotated[bool, Field(description="Say why.")] = True,
    top_reasons: Annotated[int, Field(ge=1, le=16, description="Reasons per lead.")] = 5,
    write: Annotated[bool, Field(description="Also set `score` of the leads.")] = False,
    limit: Limit = 50,
    grant: Grant = CurrentGrant(),
    caller: Caller = Depends(get_caller),
    scoring: Scoring = Depends(get_scoring),
) -> ToolResult:
    """Say how likely leads are to convert within 90 days, the likeliest first, and why.

    `base`, the reasons and `other` add up to the `logit` of the probability. Changes nothing unless `write`.
    """
    if write and _WRITE not in grant.scopes:
        raise PermissionDenied(f"write needs the scope {_WRITE}")
    if (ids is None) == (filter is None):
        raise InvalidInput("give either ids or filter")
    if ids is None:
        ids = await scoring.find(caller, filter, limit=grant.rows(limit))
    elif grant.rows(len(ids)) < len(ids):
        raise InvalidInput(f"ids: your roles read at most {grant.rows(len(ids))} records at once")
    return _scores(await scoring.score(caller, ids, top_reasons=top_reasons, write=write), explain)


@tool(
    title="Lead model",
    meta={**touches("private"), "fleet/scope": "data:admin"},
    annotations=ToolAnnotations(
        read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False
    ),
    output_schema=TABLE_SCHEMA,
    tags={"lead"},
    task=True,
    timeout=_TRAINING_TIMEOUT_S,
)
async def lead_model(
    action: Annotated[
        Literal["info", "train", "evaluate"],
        Field(
            description="info: versions and quality; evaluate: what training would give; train: learn from all "
            "outcomes and use that."
        ),
    ] = "info",
    ctx: Context = CurrentContext(),
    caller: Caller = Depends(get_caller),
    scoring: Scoring = Depends(get_scoring),
) -> ToolResult:
    """Look at, judge or train the model behind lead_score; training may take minutes.

    Models are judged on the newest fifth of the outcomes; calibration is [leads, mean probability, share converted].
    """
    if action == "info":
        return await _info(caller, scoring)
    if action == "evaluate":
        return _compared(await scoring.evaluate(caller, ctx.report_progress))
    task = running_task()
    version, metrics = await scoring.train(
        caller, ctx.report_progress, task=task.id if task else None
    )
    rows = [] if metrics is None else [[version, *_quality(metrics)]]
    return table(["version", *_QUALITY], rows, note=f"version {version} is in use")


TOOLS = (lead_score, lead_model)

_QUALITY = ("leads", "converted", "auc", "brier", "base_brier", "lift_10", "calibration")


def _scores(scored: Scored, explain: bool) -> ToolResult:
    columns = ["id", "score", "probability"]
    rows: list[list[Any]] = [
        [each.facts.lead_id, each.points, round(each.probability, 4)] for each, _ in scored.scores
    ]
    facts: dict[str, Any] = {
        "model_version": scored.model.version,
        "missing_ids": list(scored.missing_ids),
        "change_set_id": scored.change_set_id,
    }
    if explain:
        columns += ["logit", "reasons", "other"]
        facts["base"] = round(scored.model.bias, 3)
        for row, (_, why) in zip(rows, scored.scores, strict=True):
            row += [why.logit, [list(reason) for reason in why.reasons], why.other]
    return table(columns, rows, extra=facts)


async def _info(caller: Caller, scoring: Scoring) -> ToolResult:
    models = await scoring.models(caller)
    rows = [
        [
            each.model.version,
            each.is_active,
            each.trained_at,
            each.trained_by,
            *(each.metrics[name] for name in _QUALITY),
        ]
        for each in models
    ]
    note = None if any(each.is_active for each in models) else "the built-in model is in use"
    return table(
        ["version", "is_active", "trained_at", "trained_by", *_QUALITY],
        rows,
        note=note,
        extra={"horizon_days": HORIZON_DAYS},
    )


def _compared(compared: Compared) -> ToolResult:
    judged = {
        "trained now": compared.fresh,
        "in use": compared.active,
        "built in": compared.built_in,
    }
    rows = [[name, *_quality(each)] for name, each in judged.items() if each is not None]
    note = "the model in use may have learnt from these very leads" if compared.active else None
    return table(["model", *_QUALITY], rows, note=note)


def _quality(metrics: Metrics) -> list[Any]:
    stored = metrics.to_json()
    return [stored[name] for name in _QUALITY]
