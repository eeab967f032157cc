"""The rate and stabilization tables of kubernetes `horizontal_test.go`, restated. Times are seconds before now."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from fleet_autoscale.hpa import Behavior, Condition, Rate, Rules
from fleet_autoscale.hpa.behavior import (
    DEFAULT_DOWN,
    DEFAULT_UP,
    Change,
    History,
    Recommendation,
    changed_within,
    down_limit,
    limit,
    limit_fixed,
    record,
    stabilize,
    stabilize_down,
    up_limit,
)

NOW = 100_000.0
IN, FEW, MANY = Condition.WITHIN_RANGE, Condition.TOO_FEW, Condition.TOO_MANY
UP, DOWN = Condition.UP_LIMIT, Condition.DOWN_LIMIT


def rules(pods: int = 0, pods_s: int = 60, percent: int = 0, percent_s: int = 60) -> Rules:
    rates = (Rate("Pods", pods, pods_s), Rate("Percent", percent, percent_s))
    return Rules(0.0, tuple(rate for rate in rates if rate.value))


def spread(changes: list[int], over_s: int) -> list[Change]:
    """One change in the middle of each equal part of the last `over_s`, oldest first."""
    part = over_s / len(changes)
    return [
        Change(each, NOW - int(over_s - part * (i + 1) + part / 2))
        for i, each in enumerate(changes)
    ]


class Case(NamedTuple):
    current: int
    desired: int
    minimum: int
    maximum: int
    expected: int
    condition: Condition
    up: Rules = DEFAULT_UP
    down: Rules = DEFAULT_DOWN
    ups: tuple[int, ...] = ()
    downs: tuple[int, ...] = ()


RATES = [
    Case(5, 7, 3, 8, 7, IN),
    Case(3, 1, 2, 8, 2, FEW),
    Case(1, 0, 0, 10, 0, IN),
    Case(20, 1000, 1, 10, 10, MANY),
    Case(100, 1000, 100, 150, 150, MANY),
    Case(3, 1000, 1, 2000, 4, UP, up=rules(percent=1)),
    Case(1000, 3, 3, 2000, 980, DOWN, down=rules(20)),
    Case(10, 50, 1, 1000, 20, UP),
    Case(10, 500, 1, 1000, 110, UP, up=rules(100, percent=100)),
    Case(10, 500, 1, 1000, 20, UP, up=rules(2, percent=100)),
    Case(10, 50, 1, 1000, 50, IN, up=rules(100)),
    Case(10, 50, 1, 1000, 50, IN, up=rules(10000)),
    Case(10, 50, 1, 1000, 40, UP, up=rules(30)),
    Case(10, 50, 1, 1000, 30, UP, up=rules(percent=200)),
    Case(100, 2, 1, 1000, 80, DOWN, down=rules(20, percent=1)),
    Case(100, 2, 1, 1000, 98, DOWN, down=rules(2, percent=1)),
    Case(10, 0, 1, 1000, 1, FEW, down=rules(100)),
    Case(10, 2, 5, 1000, 5, FEW, down=rules(percent=100)),
    Case(10, 2, 1, 1000, 5, DOWN, down=rules(5)),
    Case(10, 5, 1, 1000, 5, IN, down=rules(percent=50)),
    # With changes in the period
    Case(100, 500, 1, 200, 200, MANY, up=rules(300), ups=(1, 5, 9)),
    Case(100, 500, 1, 200, 200, MANY, up=rules(percent=10000), ups=(1, 5, 9)),
    Case(100, 500, 1, 1000, 100, UP, up=rules(5, 120), ups=(1, 5, 9)),
    Case(100, 500, 1, 1000, 235, UP, up=rules(150, 120), ups=(1, 5, 9)),
    Case(100, 500, 1, 1000, 255, UP, up=rules(percent=200, percent_s=120), ups=(1, 5, 9)),
    Case(6, 24, 1, 1000, 16, UP, up=rules(percent=300, percent_s=300), ups=(4,), downs=(2,)),
    Case(10, 5, 1, 1000, 5, IN, downs=(1, 5, 9)),
    Case(100, 0, 1, 1000, 1, FEW, down=rules(115, 120), downs=(1, 5, 9)),
    Case(100, 0, 5, 1000, 5, FEW, down=rules(130, 120), downs=(1, 5, 9)),
    Case(100, 2, 5, 1000, 5, FEW, down=rules(percent=100, percent_s=120), downs=(1, 5, 9)),
    Case(100, 2, 1, 1000, 100, DOWN, down=rules(5, 120), downs=(1, 5, 9)),
    Case(100, 0, 1, 1000, 56, DOWN, down=rules(percent=50, percent_s=120), downs=(2, 4, 6)),
    Case(10, 1, 1, 1000, 6, DOWN, down=rules(percent=50, percent_s=180), ups=(2,), downs=(4,)),
    Case(100, 0, 1, 1000, 100, DOWN, down=rules(percent=10, percent_s=120), downs=(10, 10, 10)),
    Case(10, 5, 1, 1000, 5, IN, down=rules(percent=1000, percent_s=120), downs=(10, 10, 10)),
    Case(100, 200, 1, 1000, 200, IN, up=rules(1000), ups=(8, 12, 9, 11)),
    Case(100, 200, 1, 1000, 200, IN, up=rules(1000, 120, 100, 60), ups=(8, 12, 9, 11)),
    Case(100, 200, 1, 1000, 200, IN, up=rules(1000, 30, 100, 60), ups=(8, 12, 9, 11)),
    Case(100, 5, 1, 1000, 5, IN, down=rules(1000), downs=(8, 12, 9, 11)),
    Case(100, 5, 1, 1000, 5, IN, down=rules(1000, 120, 100, 60), downs=(8, 12, 9, 11)),
    Case(100, 5, 1, 1000, 5, IN, down=rules(1000, 30, 100, 60), downs=(8, 12, 9, 11)),
]


@pytest.mark.parametrize("case", RATES)
def test_rates(case: Case) -> None:
    history = History(
        ups=spread(list(case.ups), 120) if case.ups else [],
        downs=spread(list(case.downs), 120) if case.downs else [],
    )
    found, condition = limit(
        history,
        case.desired,
        current=case.current,
        minimum=case.minimum,
        maximum=case.maximum,
        behavior=Behavior(case.up, case.down),
        now_s=NOW,
    )
    assert (found, condition) == (case.expected, case.condition)


@pytest.mark.parametrize(
    ("current", "desired", "minimum", "maximum", "expected", "condition"),
    [
        (5, 7, 3, 8, 7, IN),
        (3, 1, 2, 8, 2, FEW),
        (1, 0, 0, 10, 0, IN),
        (20, 1000, 1, 10, 10, MANY),
        (3, 1000, 1, 2000, 6, UP),
    ],
)
def test_without_a_behavior_the_fleet_doubles_at_most(
    *, current: int, desired: int, minimum: int, maximum: int, expected: int, condition: Condition
) -> None:
    found = limit_fixed(desired, current=current, minimum=minimum, maximum=maximum)
    assert found == (expected, condition)


def test_the_least_generous_policy_can_decide() -> None:
    both = (Rate("Pods", 2, 60), Rate("Percent", 50, 60))
    assert up_limit(1, History(), Rules(300, both, "Min"), NOW) == 2
    assert down_limit(5, History(), Rules(300, both, "Min"), NOW) == 3


def test_a_direction_can_be_closed() -> None:
    closed = Rules(0, (Rate("Pods", 2, 60),), "Disabled")
    assert up_limit(5, History(), closed, NOW) == 5
    assert down_limit(5, History(), closed, NOW) == 5


@pytest.mark.parametrize(
    ("log", "desired", "expected", "kept"),
    [
        ([], 5, 5, 1),
        ([(4, 120), (5, 60)], 3, 5, 3),
        ([(1, 120), (2, 60)], 3, 3, 3),
        ([(10, 600), (9, 540)], 3, 3, 2),
        ([(10, 600), (4, 60), (5, 120), (9, 540)], 3, 5, 4),
    ],
)
def test_stabilization_without_a_behavior(
    log: list[tuple[int, int]], desired: int, expected: int, kept: int
) -> None:
    history = History([Recommendation(each, NOW - age) for each, age in log])
    assert stabilize_down(history, desired, now_s=NOW) == expected
    assert len(history.recommendations) == kept


@pytest.mark.parametrize(
    ("log", "current", "desired", "windows", "expected", "kept"),
    [
        ([], 100, 5, (0, 0), 5, [5]),
        ([(4, 120), (5, 60)], 100, 3, (0, 180), 5, [4, 5, 3]),
        ([(4, 120), (5, 60)], 1, 7, (300, 0), 4, [4, 5, 7]),
        ([(1, 120), (2, 60)], 100, 3, (300, 0), 3, [1, 2, 3]),
        ([(4, 120), (5, 60)], 1, 3, (0, 300), 3, [4, 5, 3]),
        ([(10, 600), (9, 540)], 100, 3, (0, 0), 3, [10, 3]),
        ([(10, 600), (9, 540)], 1, 100, (0, 0), 100, [10, 100]),
        ([(10, 600), (4, 60), (5, 120), (9, 540)], 100, 3, (0, 180), 5, [10, 4, 5, 3]),
        ([(10, 6000), (6, 60), (5, 120), (9, 180)], 1, 100, (300, 0), 5, [100, 6, 5, 9]),
        ([(2, 6000), (3, 180)], 2, 1, (300, 300), 2, [1, 3]),
        ([(2, 6000), (1, 180)], 2, 3, (300, 300), 2, [3, 1]),
    ],
)
def test_stabilization(
    *,
    log: list[tuple[int, int]],
    current: int,
    desired: int,
    windows: tuple[int, int],
    expected: int,
    kept: list[int],
) -> None:
    history = History([Recommendation(each, NOW - age) for each, age in log])
    behavior = Behavior(Rules(windows[0], ()), Rules(windows[1], ()))
    found = stabilize(history, desired, current=current, behavior=behavior, now_s=NOW)
    assert found == expected
    assert [each.replicas for each in history.recommendations] == kept


@pytest.mark.parametrize("direction", ["up", "down"])
@pytest.mark.parametrize(
    ("before", "after", "limits", "counted"),
    [
        ([], [(5, False)], rules(10, percent=100), 0),
        ([(7, 61)], [(5, False)], rules(10, percent=100), 0),
        ([(7, 58)], [(7, False), (5, False)], rules(10, percent=100), 7),
        ([(7, 61), (6, 59)], [(5, False), (6, False)], rules(10), 6),
        (
            [(8, 29), (6, 59), (7, 61), (9, 61)],
            [(8, False), (6, False), (7, True), (5, False)],
            rules(10, 60, 100, 30),
            14,
        ),
        ([(7, 58), (6, 59)], [(7, False), (6, False), (5, False)], rules(10, 120, 100, 30), 13),
    ],
)
def test_changes_are_remembered_as_long_as_they_limit(
    before: list[tuple[int, int]],
    after: list[tuple[int, bool]],
    limits: Rules,
    counted: int,
    direction: str,
) -> None:
    changes = [Change(each, NOW - age) for each, age in before]
    assert changed_within(changes, 60, NOW) == counted
    is_up = direction == "up"
    history = History(ups=changes if is_up else [], downs=[] if is_up else changes)
    record(
        history, before=10, after=15 if is_up else 5, behavior=Behavior(limits, limits), now_s=NOW
    )
    assert [(each.replicas, each.is_outdated) for each in changes] == after
