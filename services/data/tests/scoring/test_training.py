from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from fleet_common.errors import NotConfigured
from fleet_data.scoring import training
from fleet_data.scoring.evaluation import evaluate
from fleet_data.scoring.features import score
from fleet_data.scoring.models import Example, LeadModel, TooFewOutcomes
from fleet_data.scoring.training import fit, require_training

MakeExamples = Callable[[int], list[Example]]


@pytest.fixture(scope="module")
def examples(make_examples: MakeExamples) -> list[Example]:
    return make_examples(1200)


@pytest.fixture(scope="module")
def model(examples: list[Example]) -> LeadModel:
    return fit(examples[:800])


def test_model_finds_what_decides(model: LeadModel) -> None:
    weights = {each.name: each.weight for each in model.weights}
    assert weights["source=referral"] > 0.3
    assert weights["source=web"] < -0.3
    assert weights["meetings.count"] > 0.5
    assert abs(weights["calls.count"]) < 0.3


def test_model_is_good_and_calibrated_on_leads_it_has_not_seen(
    model: LeadModel, examples: list[Example]
) -> None:
    metrics = evaluate(model, examples[800:])
    assert metrics.auc > 0.75
    assert metrics.brier < metrics.base_brier - 0.03
    assert metrics.lift_10 > 1.5
    for _, told, happened in metrics.calibration:
        assert told == pytest.approx(happened, abs=0.15)


def test_reasons_add_up_to_the_calibrated_logit(model: LeadModel, examples: list[Example]) -> None:
    for example in examples[:100]:
        scored = score(model, example.facts)
        total = model.bias + sum(scored.contributions.values())
        assert scored.logit == pytest.approx(total, abs=1e-9)
        assert scored.probability == pytest.approx(1 / (1 + math.exp(-total)), abs=1e-12)


def test_stored_model_scores_as_before(model: LeadModel, examples: list[Example]) -> None:
    again = LeadModel.of_json(model.version, model.to_json())
    assert score(again, examples[0].facts) == score(model, examples[0].facts)


def test_moments_of_one_lead_count_as_one_outcome(examples: list[Example]) -> None:
    converted = [e for e in examples if e.has_converted][:29]
    others = [e for e in examples if not e.has_converted]
    with pytest.raises(TooFewOutcomes, match="there are 29 and"):
        fit([*converted * 3, *others])


def test_too_few_outcomes_say_how_many_are_needed(make_examples: MakeExamples) -> None:
    with pytest.raises(TooFewOutcomes, match="training needs 30 leads that converted and 30"):
        fit(make_examples(40))


def test_training_without_the_extra_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "find_spec", lambda _: None)
    with pytest.raises(NotConfigured, match=r"extra `train`.*fleet-data\[train\]"):
        require_training()
