"""The cases of kubernetes `replica_calculator_test.go`, restated: replicas now, pods, figures, replicas to expect.

A pod is a letter: `.` ready, `u` unready, `h` ready but just started, `H` unready and just started, `P` pending,
`F` failed, `D` unready and being deleted. Figures are by pod, in order; the last pods may have none.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest

from fleet_autoscale.hpa import MetricMissing, Phase, Pod, Sample, Tolerance
from fleet_autoscale.hpa.pods import Startup, group_pods
from fleet_autoscale.hpa.replicas import from_average, from_pods, from_value

NOW = 10_000.0
STARTUP = Startup(cpu_initialization_s=120.0, readiness_delay_s=10.0)


class Case(NamedTuple):
    name: str
    current: int
    pods: str
    levels: list[int]
    target: float
    expected: int
    requests: list[int] | None = None


def pods_of(letters: str, requests: list[int] | None) -> list[Pod]:
    phases = {"P": Phase.PENDING, "F": Phase.FAILED}
    return [
        Pod(
            str(i),
            phase=phases.get(letter, Phase.RUNNING),
            is_ready=letter in ".h",
            started_s=NOW if letter in "hH" else 0.0,
            ready_changed_s=NOW if letter in "hH" else 0.0,
            is_deleted=letter == "D",
            request=(requests or [1000] * len(letters))[i],
        )
        for i, letter in enumerate(letters)
    ]


def replicas(case: Case, *, of_request: bool) -> int:
    return from_pods(
        pods_of(case.pods, case.requests),
        {str(i): Sample(level, at_s=NOW) for i, level in enumerate(case.levels)},
        target=case.target,
        of_request=of_request,
        current=case.current,
        now_s=NOW,
        tolerance=Tolerance(),
        startup=STARTUP,
    )


CPU = [
    Case("scale up", 3, "...", [300, 500, 700], 30, 5),
    Case("scale up, unready counts as idle", 3, "u..", [300, 500, 700], 30, 4),
    Case("scale up, starting counts as idle", 3, "h..", [300, 500, 700], 30, 4),
    Case("unready pods forbid the step", 3, ".uu", [400, 500, 700], 30, 3),
    Case("starting pods forbid the step", 3, ".HH", [400, 500, 700], 30, 3),
    Case("scale up ignores failed pods", 2, "..FF", [500, 700], 30, 4),
    Case("scale up ignores deleted pods", 2, "..DD", [500, 700], 30, 4),
    Case("scale down", 5, ".....", [100, 300, 500, 250, 250], 50, 3),
    Case("scale down leaves unready pods out", 5, "...uu", [100, 300, 500, 250, 250], 50, 2),
    Case("scale down leaves pending pods out", 5, ".PPPP", [100], 50, 1),
    Case("scale down leaves starting pods out", 5, "...hh", [100, 300, 500, 250, 250], 50, 2),
    Case("scale down ignores failed pods", 5, ".....FF", [100, 300, 500, 250, 250], 50, 3),
    Case("scale down ignores deleted pods", 5, ".....DD", [100, 300, 500, 250, 250], 50, 3),
    Case("within tolerance", 3, "...", [1010, 1030, 1020], 100, 3, [900, 1000, 1100]),
    Case("figures of unknown pods", 4, "....", [4000, 9500, 3000, 7000, 3200, 2000], 100, 24),
    Case("missing figures, down", 4, "....", [400, 95], 100, 3),
    Case("missing figures, at target", 2, "..", [1000], 100, 2),
    Case("missing figures, would turn down", 2, "..", [1900], 100, 2),
    Case("missing figures, would turn up", 2, "..", [600], 100, 2),
    Case("missing and unready, no change", 3, "u..", [100, 450], 50, 3),
    Case("missing and starting, no change", 3, "h..", [100, 450], 50, 3),
    Case("missing and unready, up", 3, "u..", [100, 2000], 50, 4),
    Case("missing and starting, up", 3, "H..", [100, 2000], 50, 4),
    Case("missing and unready, down", 4, "u...", [100, 100, 100], 50, 3),
    Case("a surge without figures", 2, "...", [100, 100], 50, 2),
    Case(
        "jittered requests, just past tolerance",
        10, "." * 10, [150] * 10, 56, 9,
        [400, 200, 310, 290, 302, 298, 301, 299, 300, 300],
    ),
    Case(
        "jittered requests, just within tolerance",
        10, "." * 10, [150] * 10, 55, 10,
        [400, 200, 310, 290, 302, 298, 301, 299, 300, 300],
    ),
]  # fmt: skip

PLAIN = [
    Case("scale up", 3, "...", [20, 10, 30], 15, 4),
    Case("unready and starting pods count", 3, "..H", [50, 10, 30], 15, 6),
    Case("most pods unready", 3, "H.H", [50, 15, 30], 15, 7),
    Case("one pod", 1, ".", [8600], 4400, 2),
    Case("scale down", 5, ".....", [12] * 5, 20, 3),
    Case("within tolerance", 3, "...", [20, 21, 21], 20, 3),
    # What the published cases leave to the code: the second direction check, and figures exactly at the target.
    Case("missing figure, up", 2, "..", [60], 15, 4),
    Case("missing figure, down", 3, "...", [1, 1], 15, 2),
    Case("missing figure, at target", 2, "..", [15], 15, 1),
]


@pytest.mark.parametrize("case", CPU, ids=lambda case: case.name)
def test_cpu_utilization(case: Case) -> None:
    assert replicas(case, of_request=True) == case.expected


@pytest.mark.parametrize("case", PLAIN, ids=lambda case: case.name)
def test_plain_figures_per_pod(case: Case) -> None:
    assert replicas(case, of_request=False) == case.expected


@pytest.mark.parametrize(
    ("pods", "levels"),
    [("....", []), ("", [200]), ("P", [100]), ("FF", [])],
    ids=["no figures", "no pods", "only pending pods", "only failed pods"],
)
def test_nothing_to_go_by_is_an_error(pods: str, levels: list[int]) -> None:
    with pytest.raises(MetricMissing):
        replicas(Case("", 4, pods, levels, 100, 0), of_request=True)


def test_figures_of_other_pods_alone_are_an_error() -> None:
    with pytest.raises(MetricMissing):
        from_pods(
            pods_of("...", None),
            {"an-older-pod-name": Sample(100, at_s=NOW)},
            target=100,
            of_request=True,
            current=3,
            now_s=NOW,
            tolerance=Tolerance(),
            startup=STARTUP,
        )


def test_a_pod_without_a_request_is_an_error() -> None:
    with pytest.raises(MetricMissing, match="no resource request: 0"):
        from_pods(
            [Pod("0")],
            {"0": Sample(200, at_s=NOW)},
            target=100,
            of_request=True,
            current=1,
            now_s=NOW,
            tolerance=Tolerance(),
            startup=STARTUP,
        )


@pytest.mark.parametrize(
    ("figure", "target", "ready", "current", "expected"),
    [
        (20.0, 15.0, 3, 3, 4),
        (50.0, 10.0, 1, 3, 5),
        (8.6, 4.4, 1, 3, 2),
        (8.6, 6.666, 3, 3, 4),
        (12.0, 20.0, 5, 5, 3),
        (8.6, 14.334, 5, 5, 3),
        (8.6, 14.4, 5, 5, 3),
        (20.666, 20.0, 3, 3, 3),
        (20.05, 20.0, 3, 3, 3),
        (8.6, 8.888, 3, 3, 3),
        (8.6, 8.666, 4, 4, 4),
        (20.0, 15.0, 0, 0, 2),
        (1.0, 1.0, 0, 0, 1),
        (0.0, 20.0, 5, 5, 0),
        (0.0, 14.4, 5, 5, 0),
    ],
)
def test_value_targets_multiply_ready_pods(
    figure: float, target: float, ready: int, current: int, expected: int
) -> None:
    found = from_value(figure, target, ready=ready, current=current, tolerance=Tolerance())
    assert found == expected


@pytest.mark.parametrize(
    ("figure", "target", "replicas", "expected"),
    [
        (20.0, 5.0, 3, 4),
        (8.6, 2.15, 3, 4),
        (40.0, 10.0, 3, 4),
        (8.6, 2.222, 3, 4),
        (6.0, 2.0, 5, 3),
        (60.0, 20.0, 5, 3),
        (8.6, 2.867, 5, 3),
        (8.6, 3.0, 5, 3),
        (20.166, 5.0, 4, 4),
        (8.6, 2.9, 3, 3),
        (8.6, 2.2, 4, 4),
        (5.0, 1.0, 0, 5),
    ],
)
def test_average_value_targets_divide_the_demand(
    figure: float, target: float, replicas: int, expected: int
) -> None:
    assert from_average(figure, target, replicas=replicas, tolerance=Tolerance()) == expected


def test_tolerances_of_the_two_directions_are_apart() -> None:
    tolerance = Tolerance(up=0.0, down=0.5)
    assert from_average(10.5, 1.0, replicas=10, tolerance=tolerance) == 11
    assert from_average(5.5, 1.0, replicas=10, tolerance=tolerance) == 10


class TestGroups:
    """`TestGroupPods`: who counts, who is set aside, who is missing. Times are seconds before now."""

    @pytest.mark.parametrize(
        ("is_ready", "started", "changed", "age", "window", "is_cpu", "expected"),
        [
            (None, None, 0, 0, 60, False, "counted"),
            (None, 0, 0, 0, 60, True, "aside"),
            (True, 60, 30, 0, 30, True, "counted"),
            (True, 60, 30, 0, 60, True, "aside"),
            (False, 600, 594, 600, 0, True, "aside"),
            (True, 180, 180, 120, 60, True, "counted"),
            (False, 600, 540, 600, 0, True, "counted"),
            (False, 600, 590, 600, 0, True, "counted"),
            (None, 180, 0, None, 60, True, "missing"),
        ],
        ids=[
            "memory",
            "no ready condition",
            "fresh figure while starting",
            "stale figure while starting",
            "unready since it started",
            "old figure after starting",
            "unready after having been ready",
            "unready long after it started",
            "no figure",
        ],
    )
    def test_one_pod(
        self,
        *,
        is_ready: bool | None,
        started: float | None,
        changed: float,
        age: float | None,
        window: float,
        is_cpu: bool,
        expected: str,
    ) -> None:
        pod = Pod(
            "pod",
            phase=Phase.SUCCEEDED,
            is_ready=is_ready,
            ready_changed_s=NOW - changed,
            started_s=None if started is None else NOW - started,
        )
        samples = {} if age is None else {"pod": Sample(1, at_s=NOW - age, window_s=window)}
        groups = group_pods([pod], samples, is_cpu=is_cpu, now_s=NOW, startup=STARTUP)
        assert groups.counted == (expected == "counted")
        assert groups.set_aside == ({"pod"} if expected == "aside" else set())
        assert groups.missing == ({"pod"} if expected == "missing" else set())

    def test_several_pods(self) -> None:
        pods = [
            Pod("starting", phase=Phase.SUCCEEDED, is_ready=None, started_s=NOW),
            Pod("ready", phase=Phase.SUCCEEDED, started_s=NOW - 180, ready_changed_s=NOW - 180),
            Pod("silent", phase=Phase.SUCCEEDED, is_ready=None, started_s=NOW - 180),
            Pod("unscheduled", phase=Phase.PENDING, is_ready=None, started_s=None),
        ]
        samples = {name: Sample(1, at_s=NOW) for name in ("starting", "ready")}
        groups = group_pods(pods, samples, is_cpu=True, now_s=NOW, startup=STARTUP)
        assert groups.counted == 1
        assert groups.set_aside == {"starting", "unscheduled"}
        assert groups.missing == {"silent"}

    def test_no_pods(self) -> None:
        groups = group_pods([], {}, is_cpu=True, now_s=NOW, startup=STARTUP)
        assert groups.counted == 0
        assert not groups.set_aside | groups.missing
