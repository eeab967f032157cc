"""The worker: looks for what is due, leases it, works on it and renews the lease while it does.

A worker that dies leaves its leases to run out; the next one begins the same jobs again. Handlers sign what they
claim with the id of their lease, so one that lost it, and does not know yet, changes nothing any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Protocol
from uuid import UUID

import structlog

from fleet_common.errors import FleetError
from fleet_data.jobs.models import Handler, Job, Lease

log = structlog.get_logger()

_AT_ONCE = 8
_AGAIN_S = 30.0  # after a defect, or a dependency that names no time


class Queue(Protocol):
    """Where the jobs are."""

    async def due(self) -> Sequence[Job]:
        """Return what is due and nobody works on."""

    async def lease(self, job: Job, by: UUID, seconds: float) -> bool:
        """Take the job, or hold it for longer; False when it is another's."""

    async def release(self, job: Job, by: UUID, due_in_s: float | None) -> None:
        """Give the job back, or end it."""


class Worker:
    """Works on the jobs of every tenant, some at once.

    Args:
        queue: where they are.
        handlers: what to do, by kind of job.
        lease_s: time after which another worker takes over from one that died.
        poll_s: longest time until it sees what another process made due.
    """

    def __init__(
        self, queue: Queue, handlers: Mapping[str, Handler], *, lease_s: float, poll_s: float = 5.0
    ) -> None:
        self._queue = queue
        self._handlers = handlers
        self._lease_s = lease_s
        self._poll_s = min(poll_s, lease_s)
        self._woken = asyncio.Event()
        self._woken.set()  # what a worker left that died is looked for at once
        self._leases: dict[Job, Lease] = {}
        self._stopping = False

    def wake(self) -> None:
        """Look for work now: this process has just made some due."""
        self._woken.set()

    @asynccontextmanager
    async def working(self, *, grace_s: float) -> AsyncGenerator[None]:
        """Work while the block runs; then let what is under way come to a good end within `grace_s`."""
        task = asyncio.create_task(self._run(), name="jobs")
        try:
            yield
        finally:
            self._stopping = True
            for lease in self._leases.values():
                lease.end()
            self.wake()
            await asyncio.wait({task}, timeout=grace_s)
            task.cancel()
            await asyncio.wait({task})

    async def _run(self) -> None:
        async with asyncio.TaskGroup() as group:
            while not self._stopping:
                await self._wait()
                try:
                    await self._take(group)
                except FleetError as exc:
                    log.info("jobs_not_read", error=exc.code)

    async def _wait(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._poll_s):
                await self._woken.wait()
        self._woken.clear()

    async def _take(self, group: asyncio.TaskGroup) -> None:
        if self._stopping:
            return
        for job in await self._queue.due():
            if len(self._leases) >= _AT_ONCE:
                return
            if job in self._leases:
                continue  # its row is given back, and whoever worked on it is about to end
            lease = Lease()
            if job.kind in self._handlers and await self._queue.lease(job, lease.id, self._lease_s):
                self._leases[job] = lease
                group.create_task(self._work(job, lease), name=f"job-{job.kind}")

    async def _work(self, job: Job, lease: Lease) -> None:
        try:
            due_in_s = await self._renewing(job, lease)
            await self._queue.release(job, lease.id, due_in_s)
            if due_in_s is not None:
                asyncio.get_running_loop().call_later(due_in_s, self.wake)
        except FleetError as exc:  # the lease runs out by itself
            log.info("job_left", kind=job.kind, error=exc.code)
        except Exception:  # the edge: a defect here must not end the work on all others
            log.exception("job_left", kind=job.kind, job=str(job.id))
        finally:
            del self._leases[job]
            self.wake()

    async def _renewing(self, job: Job, lease: Lease) -> float | None:
        """Return what the handler returns, holding the lease meanwhile."""
        task = asyncio.create_task(self._handled(job, lease), name=f"handle-{job.kind}")
        try:
            while not (await asyncio.wait({task}, timeout=self._lease_s / 3))[0]:
                if not lease.is_over and not await self._renew(job, lease):
                    lease.end()  # what it claims from now on would not count
            return task.result()
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def _renew(self, job: Job, lease: Lease) -> bool:
        try:
            return await self._queue.lease(job, lease.id, self._lease_s)
        except FleetError:  # the database is away: others cannot take the job either
            return True

    async def _handled(self, job: Job, lease: Lease) -> float | None:
        try:
            return await self._handlers[job.kind](job, lease)
        except FleetError as exc:
            log.info("job_postponed", kind=job.kind, job=str(job.id), error=exc.code)
            return exc.retry_after_s or _AGAIN_S
        except Exception:  # the edge: one broken job must not end the work on all others
            log.exception("job_failed", kind=job.kind, job=str(job.id))
            return _AGAIN_S
