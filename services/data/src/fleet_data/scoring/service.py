"""What scoring can do: score leads, train a model on a tenant's outcomes, and say how good it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

import anyio.to_thread

from fleet_common.errors import PermissionDenied
from fleet_data.claims import Caller
from fleet_data.crm.filters import Filter
from fleet_data.crm.objects import OBJECTS
from fleet_data.crm.service import Crm
from fleet_data.scoring.builtin import BUILT_IN
from fleet_data.scoring.evaluation import evaluate
from fleet_data.scoring.features import score
from fleet_data.scoring.models import Example, Facts, LeadModel, Metrics, Score, StoredModel
from fleet_data.scoring.reasons import Explanation, explain
from fleet_data.scoring.training import fit, require_enough, require_training

Report = Callable[[float, float, str], Awaitable[None]]
"""Takes the steps done, the steps in all and a sentence."""


class Store(Protocol):
    """Where leads and models are."""

    async def facts(self, caller: Caller, ids: Sequence[UUID]) -> list[Facts]:
        """Return what is known now of those of the leads that are there."""

    async def examples(self, caller: Caller) -> list[Example]:
        """Return what can be learnt from, oldest lead first."""

    async def active(self, caller: Caller) -> LeadModel | None:
        """Return the model in use; None when the tenant never trained one."""

    async def models(self, caller: Caller) -> list[StoredModel]:
        """Return the models of the tenant, newest first."""

    async def trained_by(self, caller: Caller, task: str) -> int | None:
        """Return the version that an earlier attempt of the same task stored."""

    async def add(
        self, caller: Caller, model: LeadModel, metrics: Metrics, *, task: str | None
    ) -> int:
        """Store a model as the next version and put it into use."""


@dataclass(frozen=True, slots=True)
class Scored:
    """Scores, best first, with the model that gave them and the ids that are not there.

    Attributes:
        change_set_id: the change that wrote the scores; None when none was to be written, or none changed.
    """

    model: LeadModel
    scores: Sequence[tuple[Score, Explanation]]
    missing_ids: Sequence[str]
    change_set_id: str | None = None


@dataclass(frozen=True, slots=True)
class Compared:
    """How good models are on the newest fifth of the known outcomes.

    Attributes:
        fresh: what training on the older four fifths gives: what to expect of `train`.
        active: the model in use; None where the built-in one is.
    """

    fresh: Metrics
    built_in: Metrics
    active: Metrics | None


class Scoring:
    """Lead scoring for every tenant; each call says on whose behalf."""

    def __init__(self, store: Store, crm: Crm) -> None:
        self._store = store
        self._crm = crm

    async def find(self, caller: Caller, where: Filter | None, *, limit: int) -> list[UUID]:
        """Return the ids of the newest leads that meet a condition."""
        page = await self._crm.search(caller, "lead", where=where, fields=["id"], limit=limit)
        return [UUID(row[0]) for row in page.rows]

    async def score(
        self, caller: Caller, ids: Sequence[UUID], *, top_reasons: int = 5, write: bool = False
    ) -> Scored:
        """Return how likely leads are to convert within 90 days, the likeliest first.

        Raises:
            PermissionDenied: `score` of leads is masked for the caller.
        """
        if OBJECTS["lead"].masking(caller.masks).fields["score"].masked:
            raise PermissionDenied("score of lead is masked for your roles")
        model = await self._store.active(caller) or BUILT_IN
        facts = await self._store.facts(caller, ids)
        scores = sorted((score(model, each) for each in facts), key=lambda s: -s.logit)
        known = {each.lead_id for each in facts}
        explained = [
            (each, explain(each, bias=model.bias, most=top_reasons, masks=caller.masks))
            for each in scores
        ]
        missing = [str(id_) for id_ in dict.fromkeys(ids) if str(id_) not in known]
        change_set = await self._write(caller, scores) if write and scores else None
        return Scored(model, explained, missing, change_set)

    async def _write(self, caller: Caller, scores: Sequence[Score]) -> str | None:
        records = [{"id": each.facts.lead_id, "score": each.points} for each in scores]
        return (await self._crm.upsert(caller, "lead", records)).change_set_id

    async def models(self, caller: Caller) -> list[StoredModel]:
        """Return the models of the tenant, newest first."""
        return await self._store.models(caller)

    async def evaluate(self, caller: Caller, report: Report) -> Compared:
        """Return how good a fresh model, the built-in one and the one in use are on the newest outcomes.

        Raises:
            TooFewOutcomes: there is too little to learn from, or to judge by.
            NotConfigured: scikit-learn is missing.
        """
        require_training()
        await report(0, 2, "reading leads and their outcomes")
        older, newer = split(await self._store.examples(caller))
        await report(1, 2, f"training on {len(older)} moments in the life of leads")
        fresh = await anyio.to_thread.run_sync(fit, older)
        active = await self._store.active(caller)
        await report(2, 2, "done")
        return Compared(
            evaluate(fresh, newer),
            evaluate(BUILT_IN, newer),
            None if active is None else evaluate(active, newer),
        )

    async def train(
        self, caller: Caller, report: Report, *, task: str | None = None
    ) -> tuple[int, Metrics | None]:
        """Train on all known outcomes, put the model into use, and return its version and how good it is.

        It is judged by a model that learnt from the older four fifths and was asked about the newest fifth. The
        metrics are None when an earlier attempt of the same task stored the model.

        Raises:
            TooFewOutcomes: there is too little to learn from; nothing changes.
            NotConfigured: scikit-learn is missing.
        """
        require_training()
        if task is not None and (done := await self._store.trained_by(caller, task)):
            return done, None
        await report(0, 3, "reading leads and their outcomes")
        examples = await self._store.examples(caller)
        older, newer = split(examples)
        await report(1, 3, f"judging on {len(newer)} of {len(examples)} moments")
        metrics = evaluate(await anyio.to_thread.run_sync(fit, older), newer)
        await report(2, 3, f"training on {len(examples)} moments in the life of leads")
        model = await anyio.to_thread.run_sync(fit, examples)
        version = await self._store.add(caller, model, metrics, task=task)
        await report(3, 3, f"version {version} is in use")
        return version, metrics


def split(examples: Sequence[Example]) -> tuple[Sequence[Example], Sequence[Example]]:
    """Return the examples of the older four fifths of the leads, and of the newer fifth.

    Raises:
        TooFewOutcomes: the older ones are too few to learn from, or the newer ones all have one outcome.
    """
    require_enough(examples)
    leads = list(dict.fromkeys(example.facts.lead_id for example in examples))
    newest = set(leads[-(len(leads) // 5) :])
    older = [example for example in examples if example.facts.lead_id not in newest]
    newer = [example for example in examples if example.facts.lead_id in newest]
    require_enough(older)
    require_enough(newer, needed=1)
    return older, newer
