"""The whole-controller cases of kubernetes `horizontal_test.go`, restated: bounds, several metrics, windows."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from fleet_autoscale.hpa import (
    Average,
    Behavior,
    Condition,
    Hpa,
    Metric,
    PerPod,
    Pod,
    Rate,
    Ratio,
    Rules,
    Sample,
    Unknown,
)
from fleet_autoscale.hpa.behavior import DEFAULT_DOWN, History, Recommendation

NOW = 10_000.0
IN, FEW, MANY = Condition.WITHIN_RANGE, Condition.TOO_FEW, Condition.TOO_MANY
UP_LIMIT = Condition.UP_LIMIT


def cpu(target: int, levels: list[int]) -> PerPod:
    samples = {str(i): Sample(level, at_s=NOW) for i, level in enumerate(levels)}
    return PerPod(samples, target, of_request=True)


def plain(target: float, levels: list[float]) -> PerPod:
    return PerPod({str(i): Sample(level, at_s=NOW) for i, level in enumerate(levels)}, target)


def pods(requests: list[int]) -> list[Pod]:
    return [Pod(str(i), request=request) for i, request in enumerate(requests)]


class Case(NamedTuple):
    name: str
    bounds: tuple[int, int]
    current: int
    metrics: list[Metric]
    requests: list[int]
    expected: int
    condition: Condition | None = None


ONE, UNEVEN = [1000], [900, 1000, 1100]
DOWNWARDS = [100, 300, 500, 250, 250]

CASES = [
    Case("scale up", (2, 6), 3, [cpu(30, [300, 500, 700])], ONE * 3, 5, IN),
    Case("scale up, plain", (2, 6), 3, [plain(15, [20, 10, 30])], ONE * 3, 4, IN),
    Case("scale up to the maximum", (2, 6), 3, [plain(15, [50, 15, 30])], ONE * 3, 6, MANY),
    Case("scale up, object", (2, 6), 3, [Ratio(20, 15)], ONE * 3, 4, IN),
    Case("scale up from zero, object", (0, 6), 0, [Ratio(20, 15)], [], 2, IN),
    Case("scale up from zero, no tolerance", (0, 6), 0, [Ratio(1, 1)], [], 1, IN),
    Case("scale up, object per pod", (2, 6), 3, [Average(40, 10)], ONE * 3, 4, IN),
    Case("scale up, external", (2, 6), 3, [Ratio(8.6, 6.666)], ONE * 3, 4, IN),
    Case("scale up, external per pod", (2, 6), 3, [Average(8.6, 2.222)], ONE * 3, 4, IN),
    Case("scale down", (2, 6), 5, [cpu(50, DOWNWARDS)], ONE * 5, 3, IN),
    Case("scale down, plain", (2, 6), 5, [plain(20, [12] * 5)], ONE * 5, 3, IN),
    Case("scale down, object", (2, 6), 5, [Ratio(12, 20)], ONE * 5, 3, IN),
    Case("scale down to zero, object", (0, 6), 5, [Ratio(0, 20)], ONE * 5, 0, IN),
    Case("scale down, object per pod", (2, 6), 5, [Average(60, 20)], ONE * 5, 3, IN),
    Case("scale down, external", (2, 6), 5, [Ratio(8.6, 14.4)], ONE * 5, 3, IN),
    Case("scale down to zero, external", (0, 6), 5, [Ratio(0, 14.4)], ONE * 5, 0, IN),
    Case("scale down, external per pod", (2, 6), 5, [Average(8.6, 3)], ONE * 5, 3, IN),
    Case("one metric unreadable, up", (2, 6), 3, [cpu(30, [300, 400, 500]), Unknown()], ONE * 3, 4, IN),
    Case("one metric unreadable, from zero", (0, 6), 0, [cpu(30, [300, 400, 500]), Unknown()], ONE * 3, 4, IN),
    Case("one metric unreadable, no down", (2, 6), 5, [Unknown(), cpu(50, DOWNWARDS)], ONE * 5, 5),
    Case("no metric readable", (2, 6), 3, [Unknown(), Unknown()], ONE * 3, 3),
    Case("no figures", (2, 6), 4, [cpu(100, [])], ONE * 4, 4),
    Case("no request", (1, 5), 1, [cpu(100, [200])], [], 1),
    Case("tolerance", (1, 5), 3, [cpu(100, [1010, 1030, 1020])], UNEVEN, 3, IN),
    Case("tolerance, plain", (1, 5), 3, [plain(20, [20, 20.001, 21])], UNEVEN, 3, IN),
    Case("tolerance, object", (1, 5), 3, [Ratio(20.05, 20)], UNEVEN, 3, IN),
    Case("tolerance, external", (2, 6), 4, [Ratio(8.6, 8.666)], ONE * 4, 4, IN),
    Case("tolerance, external per pod", (2, 6), 4, [Average(8.6, 2.2)], ONE * 4, 4, IN),
    Case("minimum", (2, 5), 3, [cpu(90, [10, 95, 10])], UNEVEN, 2, FEW),
    Case("minimum zero, idle", (0, 5), 3, [cpu(90, [0, 0, 0])], UNEVEN, 0, IN),
    Case("minimum, idle", (2, 5), 3, [cpu(90, [0, 0, 0])], UNEVEN, 2, FEW),
    Case("zero replicas switch it off", (3, 5), 0, [cpu(90, [])], [], 0),
    Case("fewer than the minimum", (3, 5), 2, [cpu(90, [])], [], 3),
    Case("fewer than the minimum, idle", (2, 6), 1, [cpu(80, [0, 0, 0, 0])], ONE * 4, 2),
    Case("more than the maximum", (3, 5), 10, [cpu(90, [])], [], 5),
    Case("more than the maximum, busy", (2, 5), 6, [cpu(50, [8000, 9500, 1000])], UNEVEN, 5),
    Case("maximum", (2, 5), 3, [cpu(90, [8000, 9500, 1000])], UNEVEN, 5, MANY),
    Case("figures of unknown pods", (2, 6), 4, [cpu(100, [4000, 9500, 3000, 7000, 3200, 2000])], ONE * 4, 6, MANY),
    Case("missing figures", (2, 6), 4, [cpu(100, [400, 95])], ONE * 4, 3, IN),
    Case("double", (1, 5), 1, [cpu(50, [200])], [200], 2, IN),
    Case("at target", (1, 5), 2, [cpu(50, [200, 200])], [400, 400], 2, IN),
    Case("missing pods", (1, 5), 4, [cpu(50, [200])], [200], 2, IN),
    Case("two metrics, the greater wins", (1, 5), 3, [cpu(10, [20000] * 3), plain(15, [20, 10, 30])], ONE * 3, 5, MANY),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_one_reconciliation(case: Case) -> None:
    hpa = Hpa(*case.bounds, history=History())
    found = hpa.reconcile(case.metrics, pods=pods(case.requests), current=case.current, now_s=NOW)
    assert found == case.expected
    assert hpa.condition == case.condition


def test_a_surge_is_no_reason_to_scale() -> None:
    hpa = Hpa(1, 8)
    metrics = [cpu(50, [500] * 5)]
    assert hpa.reconcile(metrics, pods=pods(ONE * 5), current=4, status=5, now_s=NOW) == 4


@pytest.mark.parametrize(
    ("maximum", "expected", "condition"), [(100, 24, UP_LIMIT), (20, 20, MANY)]
)
def test_a_rate_caps_the_step(maximum: int, expected: int, condition: Condition) -> None:
    hpa = Hpa(1, maximum, Behavior(up=Rules(0, (Rate("Percent", 700, 60),))))
    metrics = [cpu(10, [100, 200, 300])]
    assert hpa.reconcile(metrics, pods=pods([100] * 3), current=3, now_s=NOW) == expected
    assert hpa.condition == condition


def test_a_new_hpa_waits_before_it_scales_in() -> None:
    hpa = Hpa(2, 6)
    idle = [cpu(50, DOWNWARDS)]
    assert hpa.reconcile(idle, pods=pods(ONE * 5), current=5, now_s=NOW) == 5
    assert hpa.reconcile(idle, pods=pods(ONE * 5), current=5, now_s=NOW + 301) == 3


def test_a_recent_recommendation_holds_the_fleet() -> None:
    hpa = Hpa(1, 5, history=History([Recommendation(10, NOW - 600), Recommendation(4, NOW - 60)]))
    metrics = [cpu(100, [50, 50, 50])]
    assert hpa.reconcile(metrics, pods=pods([100] * 3), current=4, now_s=NOW) == 4


def test_a_behavior_for_one_direction_keeps_the_other_at_its_default() -> None:
    hpa = Hpa(2, 6, Behavior(up=Rules(30, (Rate("Percent", 100, 15),))), history=History())
    assert hpa.behavior is not None
    assert hpa.behavior.down == DEFAULT_DOWN
    metrics = [cpu(50, DOWNWARDS)]
    assert hpa.reconcile(metrics, pods=pods(ONE * 5), current=5, now_s=NOW) == 3


def test_growth_counts_against_the_rate_of_the_next_step() -> None:
    hpa = Hpa(1, 100, Behavior(up=Rules(0, (Rate("Pods", 4, 60),))))
    demand = [Average(100, 1)]
    counts, current = [], 2
    for after_s in (0, 15, 45, 61):
        current = hpa.reconcile(demand, pods=[], current=current, now_s=NOW + after_s)
        counts.append(current)
    assert counts == [6, 6, 6, 10]


def test_a_value_counts_ready_pods_only() -> None:
    hpa = Hpa(1, 100)
    some = [Pod("0"), Pod("1", is_ready=False), Pod("2", is_ready=False)]
    assert hpa.reconcile([Ratio(50, 10)], pods=some, current=3, now_s=NOW) == 5
