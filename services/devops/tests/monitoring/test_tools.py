"""mon_query as a client calls it, on recorded numbers and on a real Prometheus."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from fastmcp import Client
from fastmcp.client.client import CallToolResult
from fastmcp.exceptions import ToolError
from mcp_types import TextContent

from fleet_common.mcp import Runtime
from fleet_common.mcp.server import create_server
from fleet_common.testing import viewer
from fleet_devops.deps import Deps
from fleet_devops.monitoring.models import Answer, Series
from fleet_devops.monitoring.service import Metrics, Monitoring
from fleet_devops.reach import Reach
from fleet_devops.server import SERVICE
from fleet_devops.settings import DevopsSettings
from fleet_devops.upstreams import open_deps

if TYPE_CHECKING:
    from services.devops.tests.monitoring.conftest import FakeMetrics

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
RANGE = {"start": "2026-01-01T11:30:00Z", "end": "2026-01-01T12:00:00Z"}


@asynccontextmanager
async def mcp(settings: DevopsSettings, metrics: Metrics | None = None) -> AsyncGenerator[Any]:
    """Yield a client of the service; `metrics` stands in for Prometheus."""

    @asynccontextmanager
    async def opened(settings: DevopsSettings, runtime: Runtime) -> AsyncGenerator[Deps]:
        async with open_deps(settings, runtime) as deps:
            fake = Monitoring(metrics, Reach((), ("*",)), now=lambda: NOW)
            yield replace(deps, monitoring=fake) if metrics else deps

    server = create_server(SERVICE, settings, open_deps=opened, local_principal=viewer())
    async with Client(server) as client:
        yield client


def text_of(result: CallToolResult) -> str:
    (content,) = result.content
    assert isinstance(content, TextContent)
    return content.text


async def call(client: Client[Any], promql: str, **arguments: Any) -> dict[str, Any]:
    result = await client.call_tool("mon_query", {"promql": promql, **arguments})
    shown: dict[str, Any] = json.loads(text_of(result))
    return shown


async def on_fake(metrics: FakeMetrics, **arguments: Any) -> dict[str, Any]:
    async with mcp(DevopsSettings(), metrics) as client:
        return await call(client, "up", **arguments)


def window_answer(*values: float) -> Answer:
    """Return a series with one value a minute from an hour ago on."""
    start = (NOW - timedelta(hours=1)).timestamp()
    samples = [(start + 60 * n, value) for n, value in enumerate(values)]
    return Answer([Series({"__name__": "up", "job": "a"}, samples)], ["partial"])


async def test_one_moment_is_one_value_per_series(metrics: FakeMetrics) -> None:
    metrics.answer = Answer(
        [
            Series({"__name__": "up", "job": "a", "zone": "x"}, [(0, 1.23456789)]),
            Series({"__name__": "up", "job": "a", "zone": "y"}, [(0, math.inf)]),
        ],
        [],
    )

    shown = await on_fake(metrics)

    assert shown["columns"] == ["series", "value"]
    assert shown["rows"] == [['{zone="y"}', "+Inf"], ['{zone="x"}', 1.23457]]
    assert shown["common_labels"] == {"__name__": "up", "job": "a"}


async def test_a_range_is_values_on_a_grid_with_gaps(metrics: FakeMetrics) -> None:
    metrics.answer = window_answer(1, 2)
    metrics.answer.series[0].samples[1] = (NOW.timestamp(), 9)

    shown = await on_fake(metrics, start="-1h", max_points=61)

    ((name, points),) = shown["rows"]
    assert name == 'up{job="a"}'
    assert points == [1, *[None] * 59, 9]
    assert (shown["start"], shown["step_s"]) == ("2026-01-01T11:00:00+00:00", 60)
    assert shown["note"] == "partial"


async def test_reductions_stand_for_the_points(metrics: FakeMetrics) -> None:
    metrics.answer = window_answer(*range(1, 21), math.nan)

    shown = await on_fake(metrics, start="-1h", reduce=["last", "avg", "max", "p95"])

    assert shown["columns"] == ["series", "last", "avg", "max", "p95"]
    assert shown["rows"] == [['up{job="a"}', "NaN", 10.5, 20, 19]]


async def test_reducing_nothing_but_gaps_is_not_a_number(metrics: FakeMetrics) -> None:
    metrics.answer = window_answer(math.nan)

    shown = await on_fake(metrics, start="-1h", reduce=["avg"])

    assert shown["rows"] == [['up{job="a"}', "NaN"]]


async def test_without_prometheus_the_error_says_so() -> None:
    async with mcp(DevopsSettings()) as client:
        with pytest.raises(ToolError, match=r"^not_configured: no Prometheus configured\. "):
            await call(client, "up")


async def test_a_real_prometheus_answers_at_one_moment(prometheus_url: str) -> None:
    async with mcp(DevopsSettings(prometheus_url=prometheus_url)) as client:
        shown = await call(client, 'sum(jobs_total{shard=~"1|2"})', at=RANGE["end"])

    assert shown["rows"] == [["{}", 90]]


async def test_a_real_prometheus_answers_over_a_range(prometheus_url: str) -> None:
    async with mcp(DevopsSettings(prometheus_url=prometheus_url)) as client:
        shown = await call(client, 'jobs_total{shard="3"}', max_points=31, **RANGE)
        reduced = await call(
            client, 'jobs_total{shard="3"}', max_points=31, reduce=["max", "p95"], **RANGE
        )

    assert shown["rows"][0][1] == [3 * step for step in range(31)]
    assert reduced["rows"][0][1:] == [90, 87]


async def test_a_real_answer_over_the_bounds_comes_with_its_cardinality(
    prometheus_url: str,
) -> None:
    async with mcp(DevopsSettings(prometheus_url=prometheus_url)) as client:
        shown = await call(client, "jobs_total", at=RANGE["end"], max_series=3)

    assert shown["rows"] == [['{shard="30"}', 900], ['{shard="29"}', 870], ['{shard="28"}', 840]]
    assert shown["truncated"] is True
    assert shown["series_total"] == 30
    assert shown["distinct_values"] == {"shard": 30, "__name__": 1, "job": 1}
    assert "topk(3, ...)" in shown["note"]


async def test_a_real_parse_error_is_readable(prometheus_url: str) -> None:
    async with mcp(DevopsSettings(prometheus_url=prometheus_url)) as client:
        with pytest.raises(ToolError, match=r"^invalid_input: Prometheus refuses .*parse error"):
            await call(client, "sum(")
