"""The job: one batch after the other, each a transaction that also moves the run on.

First everything is pulled, companies before contacts before deals, because a link needs its other end; then what was
deleted at HubSpot is noted; then what changed here is told. A worker that dies leaves the position of its last batch.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Protocol
from uuid import NAMESPACE_URL, uuid5

import httpx
import structlog

from fleet_common.errors import FleetError, NotConfigured
from fleet_data.claims import Caller
from fleet_data.connectors.hubspot.applying import apply
from fleet_data.connectors.hubspot.client import HubSpot, Pace
from fleet_data.connectors.hubspot.mapping import OBJECT_MAPS, ObjectMap
from fleet_data.connectors.hubspot.models import (
    SOURCE,
    Direction,
    Position,
    Run,
    Synced,
    Tally,
    Winner,
)
from fleet_data.connectors.hubspot.pulling import OVERLAP_MS, pull_page
from fleet_data.connectors.hubspot.pushing import Pusher, lose
from fleet_data.connectors.hubspot.repository import SyncRepository
from fleet_data.jobs.models import Job, Lease

log = structlog.get_logger()

INBOX = uuid5(NAMESPACE_URL, "https://api.hubapi.com")
"""Id of the job that reads what webhooks named: one of each tenant."""

_READ = tuple(f"crm.objects.{each.kind}.read" for each in OBJECT_MAPS.values())
_WRITE = tuple(
    f"crm.{what}.{each.kind}.write"
    for what in ("objects", "schemas")
    for each in OBJECT_MAPS.values()
)
_DISCONNECTED_S = 600.0
# What each direction consists of, in order.
_PULL: tuple[tuple[str, Synced], ...] = tuple(("pull", name) for name in OBJECT_MAPS)
_GONE: tuple[tuple[str, Synced], ...] = tuple(("gone", name) for name in OBJECT_MAPS)
_PUSH: tuple[tuple[str, Synced], ...] = tuple(("push", name) for name in OBJECT_MAPS)
STEPS: Mapping[Direction, Sequence[tuple[str, Synced]]] = {
    "both": (*_PULL, *_GONE, *_PUSH),
    "pull": (*_PULL, *_GONE),
    "push": _PUSH,
}


class Accounts(Protocol):
    """Connected accounts, by tenant."""

    def session(
        self, provider: str, caller: Caller, *scopes: str
    ) -> AbstractAsyncContextManager[httpx.AsyncClient]:
        """Yield a client of the account that the caller's tenant connected."""


@dataclass(frozen=True, slots=True)
class Sync:
    """What the sync of any tenant needs.

    Attributes:
        winner: whose value stays where both sides changed a field.
        customs: names at HubSpot of custom properties, by object and our name.
    """

    store: SyncRepository
    accounts: Accounts
    winner: Winner = "hubspot"
    customs: Mapping[Synced, Mapping[str, str]] = field(default_factory=dict)
    pace: Pace = field(default_factory=Pace)

    @asynccontextmanager
    async def open(self, caller: Caller, *, writes: bool) -> AsyncGenerator[HubSpot]:
        """Yield the account of the caller's tenant.

        Raises:
            NotConfigured: it connected none.
        """
        scopes = (*_READ, *(_WRITE if writes else ()))
        async with self.accounts.session(SOURCE, caller, *scopes) as http:
            yield HubSpot(http, self.pace)

    async def mapping(self, caller: Caller, name: Synced) -> ObjectMap:
        """Return how records of an object cross over, for this tenant."""
        names = self.customs.get(name)
        if not names:
            return OBJECT_MAPS[name]
        async with self.store.changing(caller, keep=False) as changes:
            return OBJECT_MAPS[name].with_customs(await changes.customs(name), names)


@dataclass(frozen=True, slots=True)
class Syncer:
    """Does runs; a `jobs.Handler`."""

    sync: Sync

    async def __call__(self, job: Job, lease: Lease) -> float | None:
        """Do what is left of a run, batch by batch; None when it is done."""
        caller = Caller(job.tenant, SOURCE)
        async with self.sync.store.changing(caller, keep=False) as changes:
            run = await changes.run(job.id)
        if run.state != "queued":
            return None
        try:
            await self._go_on(caller, run, lease)
        except FleetError as exc:
            await self._note(caller, run, exc)
            if exc.retryable:
                raise
            return None
        return 0.0 if lease.is_over else None

    async def _go_on(self, caller: Caller, run: Run, lease: Lease) -> None:
        steps = STEPS[run.request.direction]
        async with self.sync.open(caller, writes=run.request.direction != "pull") as hubspot:
            while not lease.is_over and run.position.step < len(steps):
                what, name = steps[run.position.step]
                of = await self.sync.mapping(caller, name)
                do = {"pull": self._pull, "gone": self._gone, "push": self._push}[what]
                run = await do(caller, hubspot, of, run)
        if run.position.step >= len(steps):
            async with self.sync.store.changing(caller) as changes:
                await changes.finish(run, "done")
            log.info("sync_finished", source=SOURCE, **run.counts)

    async def _note(self, caller: Caller, run: Run, error: FleetError) -> None:
        async with self.sync.store.changing(caller) as changes:
            if error.retryable:
                await changes.note(run, str(error))
            else:
                await changes.finish(run, "failed", str(error))

    async def _pull(self, caller: Caller, hubspot: HubSpot, of: ObjectMap, run: Run) -> Run:
        at = run.position if run.position.at else await self._begin(caller, of, run)
        page = await pull_page(hubspot, of, at)
        async with self.sync.store.changing(caller) as changes:
            tally = await apply(changes, of, page.remotes, winner=self.sync.winner)
            await changes.save_issues(tally)
            if page.remotes:
                await changes.pulled(of.object, max(each.modified_ms for each in page.remotes))
            to = page.following or Position(run.position.step + 1)
            await changes.advance(run, to, tally.counts)
        return _moved(run, to, tally)

    async def _begin(self, caller: Caller, of: ObjectMap, run: Run) -> Position:
        """Return where a walk begins: a little before the end of the last one."""
        async with self.sync.store.changing(caller) as changes:
            start = await changes.lock(of.object) - OVERLAP_MS
        if run.request.since:
            start = round(datetime.fromisoformat(run.request.since).timestamp() * 1000)
        return Position(run.position.step, str(max(0, start)))

    async def _gone(self, caller: Caller, hubspot: HubSpot, of: ObjectMap, run: Run) -> Run:
        ids, after = await hubspot.archived(of, run.position.after)
        to = Position(run.position.step, after=after) if after else Position(run.position.step + 1)
        async with self.sync.store.changing(caller) as changes:
            tally = await lose(changes, of.object, ids, delete=run.request.apply_deletes)
            await changes.advance(run, to, tally.counts)
        return _moved(run, to, tally)

    async def _push(self, caller: Caller, hubspot: HubSpot, of: ObjectMap, run: Run) -> Run:
        at = run.position
        async with self.sync.store.changing(caller, keep=False) as changes:
            after = (at.at, at.after) if at.at and at.after else None
            batch = await changes.candidates(of.object, since=run.request.since, after=after)
        if not batch:
            return await self._told(caller, of, run)
        pusher = Pusher(
            self.sync.store, hubspot, caller, self.sync.winner, run.request.apply_deletes
        )
        pushed = await pusher.push(of, batch)
        last = batch[-1]
        to = Position(at.step, last.updated_at, str(last.record_id))
        async with self.sync.store.changing(caller) as changes:
            await changes.save_refs(of.object, pushed.refs)
            await changes.save_issues(pushed.tally)
            await changes.advance(run, to, pushed.tally.counts)
        return _moved(run, to, pushed.tally)

    async def _told(self, caller: Caller, of: ObjectMap, run: Run) -> Run:
        to = Position(run.position.step + 1)
        async with self.sync.store.changing(caller) as changes:
            await changes.lock(of.object)
            await changes.pushed(of.object, run)
            await changes.advance(run, to, {})
        return _moved(run, to, Tally())


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads anew what webhooks named; a `jobs.Handler`."""

    sync: Sync

    async def __call__(self, job: Job, lease: Lease) -> float | None:
        """Bring here what HubSpot has by now of the records that were named; None when none is left."""
        caller = Caller(job.tenant, SOURCE)
        try:
            async with self.sync.open(caller, writes=False) as hubspot:
                while not lease.is_over:
                    if not await self._batch(caller, hubspot):
                        return None
        except (
            NotConfigured
        ) as exc:  # what was named waits until somebody connects the account again
            log.info("webhooks_wait", source=SOURCE, error=exc.code)
            return _DISCONNECTED_S
        return 0.0

    async def _batch(self, caller: Caller, hubspot: HubSpot) -> bool:
        """Read what was named first; False when nothing was."""
        async with self.sync.store.changing(caller, keep=False) as changes:
            named = await changes.inbox()
        for name in OBJECT_MAPS:  # in the order in which links need them
            if name in named:
                await self._read(caller, hubspot, name, named[name])
        return bool(named)

    async def _read(
        self, caller: Caller, hubspot: HubSpot, name: Synced, noted: Mapping[str, str]
    ) -> None:
        of = await self.sync.mapping(caller, name)
        remotes = await hubspot.read(of, [*noted])
        missing = sorted(noted.keys() - {each.id for each in remotes})
        async with self.sync.store.changing(caller) as changes:
            tally = await apply(changes, of, remotes, winner=self.sync.winner)
            await changes.save_issues(tally)
            await lose(changes, name, missing, delete=False)
            await changes.drop(name, noted)


def _moved(run: Run, to: Position, tally: Tally) -> Run:
    return replace(run, position=to, counts=run.counted(tally.counts))
