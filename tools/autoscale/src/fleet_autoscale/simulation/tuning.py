"""A search for the cheapest policy that keeps an objective on given traffic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from fleet_autoscale.policy import ServicePolicy
from fleet_autoscale.simulation.report import Score, score
from fleet_autoscale.simulation.run import simulate
from fleet_autoscale.simulation.scalers import ours, service_of
from fleet_autoscale.simulation.traces import Trace

_SETTINGS: dict[str, Sequence[float]] = {
    "demand.utilization": (0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9),
    "down.window_s": (30, 60, 120, 180, 300),
    "demand.drain_s": (2.0, 5.0, 10.0, 15.0, 30.0),
    "floor": (1, 2, 3, 4, 6, 8),
}
_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Tuned:
    """What a search found."""

    policy: ServicePolicy
    before: Score
    after: Score
    tried: int

    def text(self) -> str:
        """Return what to change in the policy's file, as YAML."""
        part: dict[str, Any] = {  # Any: numbers and mappings of them
            "floor": self.policy.floor,
            "demand": self.policy.demand.model_dump(),
            "down": self.policy.down.model_dump(),
        }
        return yaml.safe_dump(part, sort_keys=False, default_flow_style=None).rstrip()


def tune(
    name: str, policy: ServicePolicy, maximum: int, traces: Sequence[Trace], *, target: float
) -> Tuned:
    """Return the cheapest neighbour of `policy` whose SLO on `traces` reaches `target`.

    One setting after the other is set to what does best, until nothing gets better: a local optimum. Where nothing
    reaches the target, the policy that comes closest.
    """

    def run(candidate: ServicePolicy) -> Score:
        service = service_of(name, candidate, maximum)
        seeded = enumerate(traces, start=1)
        results = [simulate(service, t, ours(service, candidate), seed=seed) for seed, t in seeded]
        return score(name, results)

    best, scores = policy, {policy: run(policy)}
    for _ in range(_ROUNDS):
        at_first = best
        for setting in _SETTINGS:
            for candidate in _neighbours(best, setting):
                if candidate not in scores:
                    scores[candidate] = run(candidate)
                if _rank(scores[candidate], target) < _rank(scores[best], target):
                    best = candidate
        if best == at_first:
            break
    return Tuned(best, scores[policy], scores[best], len(scores))


def _rank(found: Score, target: float) -> tuple[bool, float]:
    """Return what to make small: a missed target first, by how much; else the cost."""
    is_missed = found.slo < target
    return is_missed, -found.slo if is_missed else found.cost


def _neighbours(policy: ServicePolicy, setting: str) -> list[ServicePolicy]:
    """Return the policies that differ from `policy` in one setting alone."""
    part, _, key = setting.rpartition(".")
    values = _SETTINGS[setting]
    if not part:
        return [policy.model_copy(update={key: value}) for value in values]
    inner = getattr(policy, part)
    return [
        policy.model_copy(update={part: inner.model_copy(update={key: value})}) for value in values
    ]
