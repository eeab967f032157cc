"""Scoring on the demo data: real SQL, real training."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from importlib import import_module
from typing import Any
from uuid import UUID, uuid4

import pytest

from fleet_common.errors import PermissionDenied
from fleet_data.claims import Caller
from fleet_data.crm.cursor import CursorSigner
from fleet_data.crm.filters import Where
from fleet_data.crm.repository import CrmRepository
from fleet_data.crm.service import Crm
from fleet_data.crm.values import parse_value
from fleet_data.pool import Database
from fleet_data.scoring import training
from fleet_data.scoring.builtin import BUILT_IN
from fleet_data.scoring.models import TooFewOutcomes
from fleet_data.scoring.repository import ScoringRepository
from fleet_data.scoring.service import Scoring
from fleet_data.settings import Settings

Open = Callable[[Settings], AbstractAsyncContextManager[Database]]
CONVERTED = Where(field="status", value="converted")


@pytest.fixture
async def filled(
    filled_url: str, make_settings: Callable[..., Settings], open_database: Open
) -> AsyncGenerator[Database]:
    async with open_database(make_settings(filled_url)) as database:
        yield database


def scoring_of(database: Database) -> Scoring:
    crm = Crm(CrmRepository(database, parse=parse_value), CursorSigner("x" * 32))
    return Scoring(ScoringRepository(database), crm)


async def nobody_asks(_done: float, _total: float, _message: str) -> None:
    """Report to nobody."""


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trying five strengths would take five times as long."""
    import_module("sklearn.model_selection")  # takes seconds, which are not to count for a test
    monkeypatch.setattr(training, "_STRENGTHS", (0.03,))


@pytest.mark.usefixtures("quickly")
async def test_trained_model_is_good_and_used_at_once(
    filled: Database, demo: Caller, other: Caller
) -> None:
    scoring = scoring_of(filled)
    steps: list[str] = []

    async def report(_done: float, _total: float, message: str) -> None:
        steps.append(message)

    version, metrics = await scoring.train(demo, report, task="data.one")
    assert metrics is not None
    assert metrics.leads > 100  # how good: test_training.py, where there is enough to learn from
    assert metrics.brier < 2 * metrics.base_brier
    assert steps[-1] == f"version {version} is in use" == "version 1 is in use"
    # Another attempt of the same task finds what the first one stored.
    assert await scoring.train(demo, nobody_asks, task="data.one") == (1, None)
    ids = await scoring.find(demo, None, limit=20)
    assert (await scoring.score(demo, ids)).model.version == 1
    # The next model takes its place.
    assert await ScoringRepository(filled).add(demo, BUILT_IN, metrics, task=None) == 2
    models = await scoring.models(demo)
    assert [(m.model.version, m.is_active) for m in models] == [(2, True), (1, False)]
    # Another tenant has nothing of it.
    assert await scoring.models(other) == []
    assert (await scoring.score(other, ids)).missing_ids == [str(id_) for id_ in ids]
    with pytest.raises(TooFewOutcomes, match="there are 0 and 0"):
        await scoring.train(other, nobody_asks)


@pytest.mark.usefixtures("quickly")
async def test_evaluating_compares_and_changes_nothing(seeded: Database, demo: Caller) -> None:
    scoring = scoring_of(seeded)
    compared = await scoring.evaluate(demo, nobody_asks)
    assert compared.active is None
    assert compared.fresh.leads == compared.built_in.leads > 100
    assert compared.fresh.brier < compared.built_in.brier
    assert await scoring.models(demo) == []


async def test_nothing_later_than_the_moment_is_known(filled: Database, demo: Caller) -> None:
    examples = await ScoringRepository(filled).examples(demo)
    assert {e.facts.traits["status"] for e in examples} <= {"new", "working", "qualified"}
    for example in examples:
        age = example.facts.amounts["age.days"]
        assert example.facts.amounts["visits.days"] <= age
        if age == 0:
            assert example.facts.amounts["meetings.count"] == 0
    at_birth = [e for e in examples if e.facts.amounts["age.days"] == 0]
    assert {e.facts.traits["status"] for e in at_birth} == {"new"}
    assert 30 < len({e.facts.lead_id for e in examples if e.has_converted}) <= 100
    # Of a lead that is younger than the horizon nobody knows yet.
    async with filled.reading(demo) as connection:
        young = await connection.fetch(
            "SELECT id FROM crm.leads WHERE created_at > now() - interval '90 days'"
        )
    assert young
    assert not {row["id"] for row in young} & {e.facts.lead_id for e in examples}


async def test_scores_are_written_only_when_asked(filled: Database, demo: Caller) -> None:
    scoring = scoring_of(filled)
    unknown = uuid4()
    ids = [*await scoring.find(demo, CONVERTED, limit=5), unknown]

    async def stored() -> dict[Any, Any]:
        async with filled.reading(demo) as connection:
            rows = await connection.fetch("SELECT id, score, version FROM crm.leads")
        return {row["id"]: (row["score"], row["version"]) for row in rows}

    before = await stored()
    shown = await scoring.score(demo, ids)
    assert shown.change_set_id is None
    assert shown.missing_ids == [str(unknown)]
    assert await stored() == before
    written = await scoring.score(demo, ids, write=True)
    assert written.change_set_id is not None
    after = await stored()
    changed = {id_ for id_, value in after.items() if value != before[id_]}
    assert changed == {str(id_) for id_ in ids[:5]}
    assert {s.facts.lead_id: s.points for s, _ in written.scores} == {
        id_: after[id_][0] for id_ in changed
    }
    # The same scores again change nothing.
    assert (await scoring.score(demo, ids, write=True)).change_set_id is None


async def test_masked_condition_and_masked_score_are_refused(
    seeded: Database, demo: Caller
) -> None:
    scoring = scoring_of(seeded)
    masked = replace(demo, masks=frozenset({"lead.email", "title"}))
    with pytest.raises(PermissionDenied, match="email of lead is masked"):
        await scoring.find(masked, Where(field="email", op="contains", value="a"), limit=5)
    ids = await scoring.find(masked, CONVERTED, limit=5)
    told = await scoring.score(masked, ids, top_reasons=16)
    words = " ".join(text for _, why in told.scores for text, _ in why.reasons)
    assert "mail address" not in words
    assert "job title" not in words
    with pytest.raises(PermissionDenied, match="score of lead is masked"):
        await scoring.score(replace(demo, masks=frozenset({"score"})), ids)


async def test_two_hundred_leads_are_scored_in_one_statement(
    seeded: Database, demo: Caller
) -> None:
    scoring = scoring_of(seeded)
    ids: list[UUID] = await scoring.find(demo, None, limit=200)
    started = time.process_time()
    scored = await scoring.score(demo, ids)
    assert time.process_time() - started < 0.5
    logits = [each.logit for each, _ in scored.scores]
    assert len(logits) == 200
    assert logits == sorted(logits, reverse=True)
