"""How good probabilities were, once the outcome is known."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from fleet_data.scoring.features import score
from fleet_data.scoring.models import Example, LeadModel, Metrics

_BINS = 5


def evaluate(model: LeadModel, examples: Sequence[Example]) -> Metrics:
    """Return how good `model` is on `examples`, of which there must be some of either outcome."""
    probabilities = [score(model, example.facts).probability for example in examples]
    return measured(probabilities, [example.has_converted for example in examples])


def measured(probabilities: Sequence[float], outcomes: Sequence[bool]) -> Metrics:
    """Return the metrics of probabilities, given what happened."""
    base = sum(outcomes) / len(outcomes)
    return Metrics(
        leads=len(outcomes),
        converted=sum(outcomes),
        auc=round(auc(probabilities, outcomes), 4),
        brier=round(_brier(probabilities, outcomes), 4),
        base_brier=round(base * (1 - base), 4),
        lift_10=round(_lift(probabilities, outcomes), 2),
        calibration=_calibration(probabilities, outcomes),
    )


def auc(scores: Sequence[float], outcomes: Sequence[bool]) -> float:
    """Return the area under the ROC curve; equal scores count half (Mann and Whitney)."""
    order = sorted(range(len(scores)), key=scores.__getitem__)
    ranks, start = [0.0] * len(scores), 0
    while start < len(order):
        end = start
        while end < len(order) and scores[order[end]] == scores[order[start]]:
            end += 1
        for index in order[start:end]:
            ranks[index] = (start + 1 + end) / 2
        start = end
    won = sum(outcomes)
    above = math.fsum(rank for rank, outcome in zip(ranks, outcomes, strict=True) if outcome)
    return (above - won * (won + 1) / 2) / (won * (len(outcomes) - won))


def _brier(probabilities: Sequence[float], outcomes: Sequence[bool]) -> float:
    pairs = zip(probabilities, outcomes, strict=True)
    return math.fsum((p - outcome) ** 2 for p, outcome in pairs) / len(outcomes)


def _lift(probabilities: Sequence[float], outcomes: Sequence[bool]) -> float:
    best = sorted(range(len(outcomes)), key=probabilities.__getitem__, reverse=True)
    best = best[: max(1, len(outcomes) // 10)]
    found = sum(outcomes[index] for index in best) / len(best)
    return found / (sum(outcomes) / len(outcomes))


def _calibration(
    probabilities: Sequence[float], outcomes: Sequence[bool]
) -> list[tuple[int, float, float]]:
    pairs = sorted(zip(probabilities, outcomes, strict=True))
    cuts = [len(pairs) * index // _BINS for index in range(_BINS + 1)]
    bins = [pairs[low:high] for low, high in itertools.pairwise(cuts) if high > low]
    return [
        (
            len(each),
            round(sum(p for p, _ in each) / len(each), 3),
            round(sum(o for _, o in each) / len(each), 3),
        )
        for each in bins
    ]
