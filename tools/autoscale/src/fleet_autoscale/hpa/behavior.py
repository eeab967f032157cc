"""How fast a proposal may be followed (kubernetes `horizontal.go`, `normalizeDesiredReplicasWithBehaviors`).

First stabilization: not more than the least proposal of the window on the way up, not less than the greatest on the way
down. Then the rate: per policy, what has been added and removed in its period counts against it; `select` says whether
the most or the least generous policy decides. Without a behavior the controller falls back to its older, fixed rules.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal

DOWNSCALE_WINDOW_S = 300.0
"""--horizontal-pod-autoscaler-downscale-stabilization."""


class Condition(Enum):
    """Why the count is what it is: the reason of the HPA's ScalingLimited condition."""

    WITHIN_RANGE = "DesiredWithinRange"
    TOO_FEW = "TooFewReplicas"
    TOO_MANY = "TooManyReplicas"
    UP_LIMIT = "ScaleUpLimit"
    DOWN_LIMIT = "ScaleDownLimit"


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `value` pods, or percent of the pods at the period's start, within `period_s`."""

    kind: Literal["Pods", "Percent"]
    value: int
    period_s: float


@dataclass(frozen=True, slots=True)
class Rules:
    """One direction's stabilization window, rates and tolerance."""

    window_s: float
    rates: tuple[Rate, ...]
    select: Literal["Max", "Min", "Disabled"] = "Max"
    tolerance: float = 0.1

    @property
    def longest_period_s(self) -> float:
        """Return the time after which a change limits nothing any more."""
        return max((rate.period_s for rate in self.rates), default=0.0)


DEFAULT_UP = Rules(0.0, (Rate("Pods", 4, 15.0), Rate("Percent", 100, 15.0)))
DEFAULT_DOWN = Rules(DOWNSCALE_WINDOW_S, (Rate("Percent", 100, 15.0),))


@dataclass(frozen=True, slots=True)
class Behavior:
    """An HPA's `behavior`, with the API's defaults for a direction that is left out."""

    up: Rules = DEFAULT_UP
    down: Rules = DEFAULT_DOWN


@dataclass(slots=True)
class Change:
    """Pods added or removed at a time."""

    replicas: int
    at_s: float
    is_outdated: bool = False


@dataclass(slots=True)
class Recommendation:
    """What the metrics asked for at a time."""

    replicas: int
    at_s: float


@dataclass(slots=True)
class History:
    """What an HPA remembers between two reconciliations."""

    recommendations: list[Recommendation] = field(default_factory=list)
    ups: list[Change] = field(default_factory=list)
    downs: list[Change] = field(default_factory=list)


def stabilize(
    history: History, desired: int, *, current: int, behavior: Behavior, now_s: float
) -> int:
    """Return the proposal that all of both windows agree with, and remember `desired`."""
    up_cut, down_cut = now_s - behavior.up.window_s, now_s - behavior.down.window_s
    ceiling = min((r.replicas for r in history.recommendations if r.at_s > up_cut), default=desired)
    floor = max((r.replicas for r in history.recommendations if r.at_s > down_cut), default=desired)
    _remember(history.recommendations, desired, cut_s=min(up_cut, down_cut), now_s=now_s)
    return min(max(current, min(ceiling, desired)), max(floor, desired))


def stabilize_down(history: History, desired: int, *, now_s: float) -> int:
    """Return the greatest proposal of the last five minutes, and remember `desired`: the rule without a behavior."""
    cut = now_s - DOWNSCALE_WINDOW_S
    recent = [r.replicas for r in history.recommendations if r.at_s >= cut]
    _remember(history.recommendations, desired, cut_s=cut, now_s=now_s)
    return max([desired, *recent])


def _remember(kept: list[Recommendation], desired: int, *, cut_s: float, now_s: float) -> None:
    newest = Recommendation(desired, now_s)
    outdated = [i for i, each in enumerate(kept) if each.at_s < cut_s]
    if outdated:
        kept[outdated[-1]] = newest
    else:
        kept.append(newest)


def limit(
    history: History,
    desired: int,
    *,
    current: int,
    minimum: int,
    maximum: int,
    behavior: Behavior,
    now_s: float,
) -> tuple[int, Condition]:
    """Return how far towards `desired` the rates allow to go now, and what stopped it."""
    if desired > current:
        rate = max(current, up_limit(current, history, behavior.up, now_s))
        if desired > min(maximum, rate):
            return min(maximum, rate), Condition.UP_LIMIT if rate < maximum else Condition.TOO_MANY
    elif desired < current:
        rate = min(current, down_limit(current, history, behavior.down, now_s))
        if desired < max(minimum, rate):
            return max(minimum, rate), Condition.DOWN_LIMIT if rate > minimum else Condition.TOO_FEW
    return desired, Condition.WITHIN_RANGE


def limit_fixed(desired: int, *, current: int, minimum: int, maximum: int) -> tuple[int, Condition]:
    """Return `desired` within the bounds and at most doubled (or four): the rule without a behavior."""
    doubled = max(2 * current, 4)
    if desired < minimum:
        return minimum, Condition.TOO_FEW
    if desired > min(maximum, doubled):
        return min(
            maximum, doubled
        ), Condition.UP_LIMIT if doubled < maximum else Condition.TOO_MANY
    return desired, Condition.WITHIN_RANGE


def up_limit(current: int, history: History, rules: Rules, now_s: float) -> int:
    """Return the most replicas that the rates allow now."""
    if rules.select == "Disabled":
        return current
    proposals = []
    for rate in rules.rates:
        before = _before(current, history, rate.period_s, now_s)
        # Rounded up, else a small deployment with a small percentage could never grow.
        grown = math.ceil(before * (1 + rate.value / 100))
        proposals.append(before + rate.value if rate.kind == "Pods" else grown)
    return (min if rules.select == "Min" else max)(proposals)


def down_limit(current: int, history: History, rules: Rules, now_s: float) -> int:
    """Return the fewest replicas that the rates allow now."""
    if rules.select == "Disabled":
        return current
    proposals = []
    for rate in rules.rates:
        before = _before(current, history, rate.period_s, now_s)
        shrunk = int(before * (1 - rate.value / 100))
        proposals.append(before - rate.value if rate.kind == "Pods" else shrunk)
    # "Min" means the smallest change, which leaves the most.
    return (max if rules.select == "Min" else min)(proposals)


def _before(current: int, history: History, period_s: float, now_s: float) -> int:
    added, removed = (
        changed_within(changes, period_s, now_s) for changes in (history.ups, history.downs)
    )
    return current - added + removed


def changed_within(changes: Sequence[Change], period_s: float, now_s: float) -> int:
    """Return the replicas changed in the last `period_s`."""
    return sum(each.replicas for each in changes if each.at_s > now_s - period_s)


def record(history: History, *, before: int, after: int, behavior: Behavior, now_s: float) -> None:
    """Remember a change of the replicas, in the place of one that limits nothing any more."""
    grew = after > before
    changes, rules = (history.ups, behavior.up) if grew else (history.downs, behavior.down)
    change = Change(abs(after - before), now_s)
    for each in changes:
        each.is_outdated |= each.at_s < now_s - rules.longest_period_s
    outdated = [i for i, each in enumerate(changes) if each.is_outdated]
    if outdated:
        changes[outdated[-1]] = change
    else:
        changes.append(change)
