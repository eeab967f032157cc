"""The worker of a process: takes due jobs, runs a few at a time, and sweeps up what is past its time.

The row is the truth. A job is leased and the lease renewed while it runs; when its worker dies, the lease ends and
the next worker begins the job anew. Nothing is announced between processes: each looks every second.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

import anyio
import structlog

from fleet_common.background import background
from fleet_common.errors import FleetError, InternalError
from fleet_data.claims import Caller
from fleet_data.transfer.models import Due, Finished, Job, Kind, Progress
from fleet_data.transfer.repository import Jobs

log = structlog.get_logger()

_LOOK_S = 1.0
_ATTEMPTS = 5  # a job that ends its worker each time must not go round for ever
_LAST_WORDS_S = 2.0


class Runner(Protocol):
    """Does the jobs of one kind."""

    @property
    def jobs(self) -> Jobs:
        """Return their rows."""

    async def run(self, job: Job, progress: Progress) -> Finished:
        """Do the job; whatever an earlier attempt left is overwritten or deleted."""

    async def remove(self, tenant: str, id_: str) -> None:
        """Delete the files of a job."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How many jobs run at once, and how long a worker that says nothing keeps one, in seconds."""

    at_once: int
    lease_s: float


class Worker:
    """One process's share of the jobs of all tenants."""

    def __init__(
        self,
        runners: Mapping[Kind, Runner],
        look: Callable[[], Awaitable[list[Due]]],
        forget: Callable[[Due], Awaitable[None]],
        pace: Pace,
    ) -> None:
        self._runners = runners
        self._look = look
        self._forget = forget
        self._pace = pace
        self._name = f"{socket.gethostname()}#{os.getpid()}#{secrets.token_hex(4)}"
        self._awake = asyncio.Event()
        self._running: dict[str, asyncio.Task[None]] = {}

    @asynccontextmanager
    async def working(self) -> AsyncGenerator[None]:
        """Work while the block runs; what is not done when it ends is handed back."""
        try:
            async with background(self._work(), name="transfer-worker"):
                yield
        finally:
            for task in self._running.values():
                task.cancel()
            if self._running:
                await asyncio.wait(self._running.values())

    def wake(self) -> None:
        """Look at once: there is a new job."""
        self._awake.set()

    async def _work(self) -> None:
        while True:
            self._awake.clear()
            try:
                for due in await self._look():
                    await self._take(due)
            except FleetError as exc:  # the database is away: the next look may find it
                log.warning("transfer_jobs_not_seen", error=exc.code)
            with anyio.move_on_after(_LOOK_S):
                await self._awake.wait()

    async def _take(self, due: Due) -> None:
        if due.action == "expire":
            await self._forget(due)
            log.info("transfer_expired", kind=due.kind, job=due.id)
        elif len(self._running) < self._pace.at_once and due.id not in self._running:
            assert due.kind != "upload"  # noqa: S101 - uploads only expire
            task = asyncio.create_task(self._run(due.kind, due), name=f"{due.kind}-{due.id}")
            self._running[due.id] = task
            task.add_done_callback(lambda done: self._ended(due.id, done))

    def _ended(self, id_: str, task: asyncio.Task[None]) -> None:
        self._running.pop(id_, None)
        self.wake()
        if not task.cancelled() and (failure := task.exception()) is not None:
            # A defect: the lease ends, and the job is tried again a few times.
            log.error("transfer_crashed", job=id_, exc_info=failure)

    async def _run(self, kind: Kind, due: Due) -> None:
        runner = self._runners[kind]
        job = await runner.jobs.claim(due, worker=self._name, lease_s=self._pace.lease_s)
        if job is None:
            return
        if job.attempts > _ATTEMPTS:
            given_up = InternalError(f"the job was given up after {_ATTEMPTS} attempts")
            await runner.jobs.fail(job, given_up, worker=self._name)
            return
        log.info("transfer_started", kind=kind, job=job.id, attempt=job.attempts)
        try:
            await self._done(runner, job)
        except FleetError as exc:
            await self._failed(runner, job, exc)
        except asyncio.CancelledError:
            with anyio.move_on_after(_LAST_WORDS_S, shield=True):
                await self._handed_back(runner, job)
            raise

    async def _done(self, runner: Runner, job: Job) -> None:
        progress = Progress()
        work = asyncio.create_task(runner.run(job, progress), name=f"work-{job.id}")
        async with background(self._renewing(runner, job, progress, work), name=f"lease-{job.id}"):
            try:
                done = await work
            except asyncio.CancelledError:
                if asyncio.current_task().cancelling():  # type: ignore[union-attr]
                    raise
                await self._lost(runner, job)
                return
        if done.is_recorded or await runner.jobs.finish(job, done, worker=self._name):
            log.info("transfer_finished", job=job.id, rows=done.rows, bytes=done.bytes)
        else:
            await self._lost(runner, job)

    async def _renewing(
        self, runner: Runner, job: Job, progress: Progress, work: asyncio.Task[Finished]
    ) -> None:
        """Keep the lease; when the job is no more ours, stop the work."""
        lease_s = self._pace.lease_s
        while True:
            await asyncio.sleep(min(1.0, lease_s / 3))
            try:
                if not await runner.jobs.renew(job, progress, worker=self._name, lease_s=lease_s):
                    work.cancel()
                    return
            except FleetError as exc:  # away for a moment; the lease lasts longer than that
                log.info("transfer_lease_not_renewed", job=job.id, error=exc.code)

    @staticmethod
    async def _lost(runner: Runner, job: Job) -> None:
        """Delete what is left of a job that its owner cancelled; one that somebody else has is theirs."""
        log.info("transfer_lost", job=job.id)
        now = await runner.jobs.get(Caller(job.tenant, job.subject), job.id)
        if now is not None and now.state == "cancelled":
            await runner.remove(job.tenant, job.id)

    async def _failed(self, runner: Runner, job: Job, error: FleetError) -> None:
        await runner.remove(job.tenant, job.id)
        if error.retryable and job.attempts < _ATTEMPTS:
            # Not handed back at once: what is away needs its time, and the lease is one.
            log.warning("transfer_interrupted", job=job.id, error=error.code)
            return
        log.info("transfer_failed", job=job.id, error=error.code)
        await runner.jobs.fail(job, error, worker=self._name)

    async def _handed_back(self, runner: Runner, job: Job) -> None:
        try:
            await runner.jobs.hand_back(job, worker=self._name)
        except FleetError as exc:  # then the lease ends by itself
            log.info("transfer_not_handed_back", job=job.id, error=exc.code)
