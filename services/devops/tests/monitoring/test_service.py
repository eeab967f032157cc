"""Questions, and how much of an answer comes back."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from fleet_common.errors import InvalidInput, PermissionDenied
from fleet_common.testing import granted
from fleet_devops.errors import NoMonitoring
from fleet_devops.monitoring.models import Answer, Series
from fleet_devops.monitoring.service import Found, Metrics, Monitoring, Question
from fleet_devops.monitoring.window import Window
from fleet_devops.reach import Reach

if TYPE_CHECKING:
    from services.devops.tests.monitoring.conftest import FakeMetrics

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
ALL = Reach((), ("*",))


async def query(metrics: Metrics | None, reach: Reach = ALL, **question: Any) -> Found:
    monitoring = Monitoring(metrics, reach, now=lambda: NOW)
    return await monitoring.query(granted(), Question("up", **question))


def answer(*values: float) -> Answer:
    """Return one series per value, which is its last."""
    return Answer(
        [Series({"job": "a", "shard": str(n)}, [(0, v)]) for n, v in enumerate(values)], []
    )


async def test_without_times_the_question_is_about_now(metrics: FakeMetrics) -> None:
    await query(metrics)
    await query(metrics, at="-1h")

    assert metrics.asked == [("up", NOW), ("up", NOW - timedelta(hours=1))]


async def test_a_range_ends_now_unless_it_says_otherwise(metrics: FakeMetrics) -> None:
    await query(metrics, start="-1h", max_points=61)

    assert metrics.asked == [("up", Window(NOW - timedelta(hours=1), NOW, 60))]


@pytest.mark.parametrize(
    "contradiction",
    [
        {"end": "now"},
        {"at": "now", "start": "-1h"},
        {"reduce": ("max",)},
        {"start": "-1h", "end": "-2h"},
        {"start": "-1h", "max_points": 500, "max_series": 200},
    ],
)
async def test_times_that_contradict_are_refused(
    metrics: FakeMetrics, contradiction: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInput):
        await query(metrics, **contradiction)

    assert metrics.asked == []


async def test_many_points_are_fine_when_they_are_reduced(metrics: FakeMetrics) -> None:
    await query(metrics, start="-1h", max_points=500, max_series=200, reduce=("max",))

    assert len(metrics.asked) == 1


async def test_the_series_with_the_highest_last_value_come_first(metrics: FakeMetrics) -> None:
    metrics.answer = answer(1, math.nan, 3, -math.inf, 2)

    found = await query(metrics, max_series=4)

    assert [series.last for series in found.series] == [3, 2, 1, -math.inf]
    assert found.total == 5
    assert found.cardinality == {"shard": 5, "job": 1}


async def test_an_answer_within_bounds_has_no_cardinality(metrics: FakeMetrics) -> None:
    metrics.answer = answer(1, 2)

    found = await query(metrics)

    assert found.cardinality == {}
    assert found.common == {"job": "a"}


async def test_a_single_series_keeps_its_labels(metrics: FakeMetrics) -> None:
    metrics.answer = answer(1)

    assert (await query(metrics)).common == {}


async def test_without_prometheus_the_answer_names_the_setting() -> None:
    with pytest.raises(NoMonitoring, match="FLEET_DEVOPS_PROMETHEUS_URL"):
        await query(None)


async def test_metrics_are_refused_where_some_namespace_is_out_of_reach(
    metrics: FakeMetrics,
) -> None:
    with pytest.raises(PermissionDenied):
        await query(metrics, Reach((), ("team-a",)))

    assert metrics.asked == []
