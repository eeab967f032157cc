"""Prometheus as a model sees it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Annotated, Any

from fastmcp.dependencies import Depends
from fastmcp.tools import ToolResult, tool
from mcp_types import ToolAnnotations
from pydantic import Field

from fleet_common.mcp import CurrentGrant, cached, touches
from fleet_common.mcp.results import TABLE_SCHEMA, table
from fleet_common.policy import Grant
from fleet_devops.deps import get_monitoring
from fleet_devops.monitoring.models import MomentText, PromQL, Reduction, Series
from fleet_devops.monitoring.service import Found, Monitoring, Question
from fleet_devops.monitoring.window import Window
from fleet_devops.text import clip, visible

# One configured Prometheus: a closed world, whose values change by themselves.
READS = ToolAnnotations(
    read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)


# Prometheus itself scrapes every 5 to 15 s: within ten seconds the same question has the same answer.
@cached(timedelta(seconds=10))
@tool(
    title="Query metrics",
    meta=touches("private"),
    annotations=READS,
    tags={"monitoring"},
    output_schema=TABLE_SCHEMA,
)
async def mon_query(
    promql: PromQL,
    *,
    at: MomentText = None,
    start: Annotated[MomentText, Field(description="As `at`.")] = None,
    end: Annotated[MomentText, Field(description="As `at`.")] = None,
    max_points: Annotated[
        int, Field(ge=1, le=500, description="Most points per series; it sets the step.")
    ] = 60,
    max_series: Annotated[int, Field(ge=1, le=200, description="Most series, highest first.")] = 20,
    reduce: Annotated[
        list[Reduction] | None,
        Field(max_length=4, description="Numbers per series, not points."),
    ] = None,
    monitoring: Monitoring = Depends(get_monitoring),
    grant: Grant = CurrentGrant(),
) -> ToolResult:
    """Ask Prometheus: now, `at` one moment, or over a range from `start` to `end` (now when left out).

    A range returns values alone, from `start` every `step_s`, null for gaps; `reduce` is far shorter.
    """
    question = Question(
        promql, at, start, end, max_points, grant.rows(max_series), tuple(reduce or ())
    )
    found = await monitoring.query(grant, question)
    columns, row = _layout(question, found.window)
    return table(
        columns,
        [row(series, found.common) for series in found.series],
        truncated=found.total > len(found.series),
        note=_note(found),
        extra=_facts(found),
    )


TOOLS = (mon_query,)


def _layout(
    question: Question, window: Window | None
) -> tuple[Sequence[str], Callable[[Series, Mapping[str, str]], list[object]]]:
    if window is None:
        return ("series", "value"), lambda one, common: [_name(one, common), _number(one.last)]
    if question.reduce:
        wanted = question.reduce
        return ("series", *wanted), lambda one, common: [
            _name(one, common),
            *(_number(_REDUCTIONS[name]([value for _, value in one.samples])) for name in wanted),
        ]
    return ("series", "points"), lambda one, common: [_name(one, common), _points(one, window)]


def _points(series: Series, window: Window) -> list[object]:
    points: list[object] = [None] * window.points
    began = window.start.timestamp()
    for at, value in series.samples:
        points[round((at - began) / window.step_s)] = _number(value)
    return points


def _name(series: Series, common: Mapping[str, str]) -> str:
    """Return the series as PromQL writes it, without the labels that all have in common."""
    own = {k: v for k, v in series.labels.items() if k not in common}
    metric = own.pop("__name__", "")
    labels = ",".join(f'{k}="{clip(visible(v), 200)}"' for k, v in sorted(own.items()))
    return f"{metric}{{{labels}}}" if labels or not metric else metric


def _number(value: float) -> float | str:
    """Return six significant digits; what JSON has no number for comes as Prometheus writes it."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    short = float(f"{value:.6g}")
    return int(short) if short.is_integer() else short


def _p95(values: Sequence[float]) -> float:
    """Return the nearest-rank 95th percentile."""
    return sorted(values)[math.ceil(0.95 * len(values)) - 1]


def _over_numbers(
    reduction: Callable[[Sequence[float]], float],
) -> Callable[[Sequence[float]], float]:
    def reduced(values: Sequence[float]) -> float:
        numbers = [value for value in values if not math.isnan(value)]
        return reduction(numbers) if numbers else math.nan

    return reduced


_REDUCTIONS: dict[Reduction, Callable[[Sequence[float]], float]] = {
    "last": lambda values: values[-1],
    "avg": _over_numbers(lambda values: sum(values) / len(values)),
    "max": _over_numbers(max),
    "p95": _over_numbers(_p95),
}


def _facts(found: Found) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    if found.common:
        facts["common_labels"] = found.common
    if found.window is not None:
        facts |= {"start": found.window.start.isoformat(), "step_s": found.window.step_s}
    if found.cardinality:
        facts |= {"series_total": found.total, "distinct_values": found.cardinality}
    return facts


def _note(found: Found) -> str | None:
    remarks = [clip(visible(text), 200) for text in found.warnings]
    if found.cardinality:
        remarks.append(
            f"{found.total} series, the {len(found.series)} with the highest last value are here; "
            f"narrow with topk({len(found.series)}, ...) or sum by (label) (...)"
        )
    return "; ".join(remarks) or None
