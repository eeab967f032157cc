from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_data.scoring.evaluation import auc, measured

PAIRS = st.lists(st.tuples(st.sampled_from([0.1, 0.2, 0.5, 0.9]), st.booleans()), min_size=2)


@given(PAIRS.filter(lambda pairs: len({outcome for _, outcome in pairs}) == 2))
def test_auc_is_the_share_of_pairs_in_the_right_order(pairs: list[tuple[float, bool]]) -> None:
    won = [p for p, outcome in pairs if outcome]
    lost = [p for p, outcome in pairs if not outcome]
    right = sum((w > x) + (w == x) / 2 for w in won for x in lost)
    counted = auc([p for p, _ in pairs], [outcome for _, outcome in pairs])
    assert counted == pytest.approx(right / (len(won) * len(lost)))


def test_perfect_knowledge_measures_as_such() -> None:
    outcomes = [index % 10 == 0 for index in range(100)]
    metrics = measured([float(outcome) for outcome in outcomes], outcomes)
    assert (metrics.auc, metrics.brier, metrics.lift_10) == (1.0, 0.0, 10.0)
    assert metrics.base_brier == pytest.approx(0.09)
    assert metrics.calibration[-1] == (20, 0.5, 0.5)


def test_saying_the_base_rate_is_no_better_than_guessing() -> None:
    metrics = measured([0.25] * 8, [True, True, *[False] * 6])
    assert (metrics.auc, metrics.brier) == (0.5, metrics.base_brier)
