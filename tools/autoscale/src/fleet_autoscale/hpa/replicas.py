"""How many replicas one metric proposes (kubernetes `replica_calculator.go`).

Three kinds of target behave differently, and the difference decides a policy. A figure per pod (CPU, a pods metric) is
averaged over the pods that have one. A `Value` multiplies the ready pods by figure / target: a figure that does not
fall compounds to the maximum.
An `AverageValue` of an external figure is figure / target, whatever runs: it cannot compound.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fleet_autoscale.hpa.pods import Groups, Pod, Sample, Startup, group_pods


class MetricMissing(Exception):
    """Raised when a metric says nothing about how many replicas there should be."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a ratio may be from 1, upwards and downwards, without a change."""

    up: float = 0.1
    down: float = 0.1

    def covers(self, ratio: float) -> bool:
        """Tell whether `ratio` is too close to 1 to act on."""
        return 1.0 - self.down <= ratio <= 1.0 + self.up


def from_pods(
    pods: Sequence[Pod],
    samples: Mapping[str, Sample],
    *,
    target: float,
    of_request: bool,
    current: int,
    now_s: float,
    tolerance: Tolerance,
    startup: Startup,
) -> int:
    """Return the replicas for a figure per pod.

    Args:
        pods: all pods of the selector.
        samples: the figure by pod name.
        target: the average figure per pod, or a percentage of the request where `of_request`.
        of_request: a resource utilization; else a plain value per pod.
        current: replicas the scale target asks for.
        now_s: the time, in seconds.
        tolerance: ratios to ignore.
        startup: when a starting pod's CPU counts.

    Raises:
        MetricMissing: no pod that counts has a figure, or a pod has no request.
    """
    if not pods:
        raise MetricMissing("no pods")
    groups = group_pods(pods, samples, is_cpu=of_request, now_s=now_s, startup=startup)
    figures = {n: each.value for n, each in samples.items() if n not in groups.set_aside}
    requests = _requests(pods) if of_request else {}
    if not figures:
        raise MetricMissing("no ready pod has a figure")

    def ratio_of(figures: Mapping[str, float]) -> float:
        return _utilization(figures, requests, target) if of_request else _mean(figures, target)

    ratio = ratio_of(figures)
    if not groups.missing and not (groups.set_aside and ratio > 1.0):
        return current if tolerance.covers(ratio) else math.ceil(ratio * groups.counted)
    figures |= _assumed(groups, ratio, target, requests if of_request else None)
    return _recomputed(ratio, ratio_of(figures), len(figures), current, tolerance)


def _recomputed(first: float, ratio: float, pods: int, current: int, tolerance: Tolerance) -> int:
    """Return the replicas for `ratio` once assumptions are in, unless these turned the direction around."""
    if tolerance.covers(ratio) or (first < 1.0 < ratio) or (ratio < 1.0 < first):
        return current
    replicas = math.ceil(ratio * pods)
    turned = (ratio < 1.0 and replicas > current) or (ratio > 1.0 and replicas < current)
    return current if turned else replicas


def _assumed(
    groups: Groups, ratio: float, target: float, requests: Mapping[str, float] | None
) -> dict[str, float]:
    """Return what pods without a figure are taken for: idle on the way up, at the target on the way down."""
    if ratio > 1.0:
        return dict.fromkeys(groups.missing | groups.set_aside, 0.0)
    if requests is None:
        return dict.fromkeys(groups.missing, target if ratio < 1.0 else 0.0)
    if ratio == 1.0:
        return {}
    # Of a resource at least the whole request, also where the target is below it.
    return {name: requests[name] * max(100, int(target)) // 100 for name in groups.missing}


def _requests(pods: Sequence[Pod]) -> dict[str, float]:
    without = [pod.name for pod in pods if pod.request is None]
    if without:
        message = f"no resource request: {', '.join(without)}"
        raise MetricMissing(message)
    return {pod.name: pod.request for pod in pods if pod.request is not None}


def _utilization(
    figures: Mapping[str, float], requests: Mapping[str, float], target: float
) -> float:
    # The controller works in whole percents here, so 0.9 % over the target is no change.
    known = [name for name in figures if name in requests]
    asked = sum(requests[name] for name in known)
    if not asked:
        raise MetricMissing("no pod with a figure has a request")
    return int(sum(figures[name] for name in known) * 100 / asked) / target


def _mean(figures: Mapping[str, float], target: float) -> float:
    # Quantities are whole thousandths to the controller.
    total = sum(round(each * 1000) for each in figures.values())
    return total // len(figures) / round(target * 1000)


def from_value(
    figure: float, target: float, *, ready: int, current: int, tolerance: Tolerance
) -> int:
    """Return the replicas for an object's or external `Value`: the ready pods times figure / target.

    From zero replicas neither tolerance nor pods count.
    """
    ratio = figure / target
    if current == 0:
        return math.ceil(ratio)
    return current if tolerance.covers(ratio) else math.ceil(ratio * ready)


def from_average(figure: float, target: float, *, replicas: int, tolerance: Tolerance) -> int:
    """Return the replicas for an object's or external `AverageValue`: figure / target, whatever is ready.

    Args:
        figure: the whole demand.
        target: the share of one replica.
        replicas: those that exist (the scale target's status).
        tolerance: ratios to ignore.
    """
    if replicas and tolerance.covers(figure / (target * replicas)):
        return replicas
    return math.ceil(figure / target)
