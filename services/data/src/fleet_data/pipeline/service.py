"""What can be done in the pipeline: move a deal by the rules, count deals, convert a lead."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict
from typing import Any, Protocol
from uuid import UUID

from fleet_common.errors import InvalidInput, NotFound
from fleet_data.claims import Caller
from fleet_data.crm.changing import Change, ChangeSet, changed
from fleet_data.crm.models import Stored, Write
from fleet_data.crm.objects import OBJECTS
from fleet_data.crm.transaction import Transaction
from fleet_data.crm.values import new_record
from fleet_data.errors import VersionConflict
from fleet_data.ids import uuid7
from fleet_data.pipeline.conversion import convert
from fleet_data.pipeline.models import Conversion, Converted, Move, Moved, Report, Stage


class PipelineTransaction(Transaction, Protocol):
    """A transaction that knows stages."""

    async def stages(self, pipeline: str) -> Sequence[Stage]:
        """Return the stages of a pipeline, in order."""

    async def hand_over(self, lead_id: UUID, contact_id: UUID) -> None:
        """Let what is about a lead be about the contact too."""


class Store(Protocol):
    """Where deals and leads are."""

    async def report(
        self, caller: Caller, report: Report, *, limit: int
    ) -> Sequence[Sequence[Any]]:
        """Return one row per group and currency."""

    def changing(
        self, caller: Caller, *, change_set: ChangeSet, keep: bool
    ) -> AbstractAsyncContextManager[PipelineTransaction]:
        """Yield a transaction that is kept when `keep` is true and nothing is raised."""


class Pipeline:
    """The selling of every tenant; each call says on whose behalf."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def report(
        self, caller: Caller, report: Report, *, limit: int
    ) -> Sequence[Sequence[Any]]:
        """Return deals counted and summed by group and currency, since amounts of two currencies have no sum.

        Raises:
            PermissionDenied: what is summed or grouped by is masked for the caller.
        """
        deal = OBJECTS["deal"].masking(caller.masks)
        deal.usable("amount")
        if report.group_by == "company":
            OBJECTS["company"].masking(caller.masks).usable("name")
        return await self._store.report(caller, report, limit=limit)

    async def move(self, caller: Caller, move: Move, *, key: str | None, dry_run: bool) -> Moved:
        """Put a deal into a stage of its pipeline; the reason becomes a note of the deal.

        Raises:
            NotFound: there is no such deal.
            VersionConflict: it is at another version.
            InvalidInput: the pipeline has no such stage, or a reason is needed: to lose a deal, or to open it again.
            KeyReused: the key was used with other arguments.
        """
        call = Change(caller, "crm_deal_move", asdict(move), key, dry_run)

        async def make(changes: PipelineTransaction) -> Any:
            deal = await _deal(changes, move)
            before, after = await _stages(changes, deal, move)
            if before != after:
                await _enter(changes, deal, after, move)
            made = None if dry_run or before == after else str(call.id)
            return asdict(Moved(str(deal.id), after.key, before.key, after.kind, made, dry_run))

        return Moved(**await changed(self._store, call, make))

    async def convert(
        self, caller: Caller, conversion: Conversion, *, key: str | None, dry_run: bool
    ) -> Converted:
        """Turn a lead into a contact, its company and a deal, in one transaction.

        Raises:
            NotFound: there is no such lead.
            Conflict: it was converted before.
            KeyReused: the key was used with other arguments.
        """
        call = Change(caller, "lead_convert", asdict(conversion), key, dry_run)

        async def make(changes: PipelineTransaction) -> Any:
            outcome = await convert(changes, conversion)
            # The id of a record that is not kept would lead nowhere.
            kept = {
                n: str(i) for n, i in outcome.ids.items() if not (dry_run and n in outcome.created)
            }
            ids = [kept.get(name) for name in ("contact", "company", "deal")]
            made = None if dry_run else str(call.id)
            return asdict(Converted(ids[0] or "", ids[1], ids[2], outcome.created, made, dry_run))

        return Converted(**await changed(self._store, call, make))


async def _deal(changes: Transaction, move: Move) -> Stored:
    of = OBJECTS["deal"]
    found = await changes.load(of, of.fields["id"], [str(move.deal_id)])
    deal = found.get(str(move.deal_id))
    if deal is None:
        raise NotFound("deal", move.deal_id)
    if move.if_version is not None and move.if_version != deal.version:
        raise VersionConflict(expected=move.if_version, found=deal.version)
    return deal


async def _stages(changes: PipelineTransaction, deal: Stored, move: Move) -> tuple[Stage, Stage]:
    """Return the stage that the deal is in and the one it goes to."""
    stages = {stage.key: stage for stage in await changes.stages(str(deal.values["pipeline"]))}
    before, after = stages[str(deal.values["stage"])], stages.get(move.stage)
    if after is None:
        raise InvalidInput(
            f"{deal.values['pipeline']} has no stage {move.stage[:60]!r}",
            hint=f"Stages: {', '.join(stages)}",
        )
    if before != after and not move.reason:
        if after.kind == "lost":
            raise InvalidInput("reason: say why the deal was lost")
        if before.kind != "open":
            raise InvalidInput(f"reason: say why a deal that was {before.kind} moves")
    return before, after


async def _enter(changes: Transaction, deal: Stored, stage: Stage, move: Move) -> None:
    moved = {**deal.values, "stage": stage.key}
    await changes.write(OBJECTS["deal"], [Write(0, deal.id, moved)])
    if move.reason:
        of = OBJECTS["note"]
        body = f"Moved from {deal.values['stage']} to {stage.key}: {move.reason}"
        note = new_record(of, {"body": body, "deal_id": str(deal.id)})
        await changes.write(of, [Write(0, uuid7(), note)])
