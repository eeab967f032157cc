"""The worker: leases hold, are renewed, run out and are given back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID, uuid4

from fleet_common.errors import Unavailable
from fleet_common.testing import wait_until
from fleet_data.claims import Caller
from fleet_data.jobs.models import Job, Lease
from fleet_data.jobs.repository import JobRepository, make_due
from fleet_data.jobs.worker import Worker
from fleet_data.pool import Database


async def add_job(database: Database, caller: Caller) -> Job:
    job = Job(caller.tenant, "campaign", uuid4())
    async with database.writing(caller) as connection:
        await make_due(connection, job)
    return job


def worker_of(
    jobs: JobRepository, handle: Callable[[Job, Lease], Awaitable[float | None]]
) -> Worker:
    return Worker(jobs, {"campaign": handle}, lease_s=0.3, poll_s=0.02)


async def test_each_job_is_one_workers_until_it_ends(
    database: Database, demo: Caller, other: Caller
) -> None:
    jobs = JobRepository(database)
    for caller in (demo, demo, other):
        await add_job(database, caller)
    seen: list[Job] = []

    async def handle(job: Job, lease: Lease) -> float | None:
        seen.append(job)
        await asyncio.sleep(0.5)  # longer than a lease: it is renewed
        return None

    async def is_empty() -> bool:
        return not await jobs.pending()

    async with (
        worker_of(jobs, handle).working(grace_s=1),
        worker_of(jobs, handle).working(grace_s=1),
    ):
        await wait_until(is_empty)
    assert len(seen) == len(set(seen)) == 3


async def test_a_job_comes_again_until_it_says_that_it_is_done(
    database: Database, demo: Caller
) -> None:
    jobs, job = JobRepository(database), await add_job(database, demo)
    tries: list[int] = []

    async def handle(_: Job, lease: Lease) -> float | None:
        tries.append(len(tries))
        if len(tries) == 1:
            raise Unavailable("mail", retry_after_s=0.01)
        if len(tries) == 2:
            return 0.01
        if len(tries) == 3:  # somebody wants it again while it ends
            async with database.writing(demo) as connection:
                await make_due(connection, job)
        return None

    async def is_done() -> bool:
        return len(tries) == 4 and not await jobs.pending()

    async with worker_of(jobs, handle).working(grace_s=1):
        await wait_until(is_done)


async def test_a_lost_lease_and_a_stop_are_told_to_whoever_works(
    database: Database, demo: Caller
) -> None:
    jobs = JobRepository(database)
    await add_job(database, demo)
    told: list[str] = []
    begun = asyncio.Event()

    async def handle(_: Job, lease: Lease) -> float | None:
        begun.set()
        await lease.sleep(30)
        told.append("over" if lease.is_over else "late")
        return 0.0

    async def steal() -> None:
        async with database.writing(demo) as connection:
            await connection.execute(
                "UPDATE store.jobs SET leased_by = gen_random_uuid(), leased_until = now() + interval '1 hour'"
            )

    async def is_told() -> bool:
        return bool(told)

    async with worker_of(jobs, handle).working(grace_s=1):
        await asyncio.wait_for(begun.wait(), 5)
        await steal()
        await wait_until(is_told)
    async with database.writing(demo) as connection:
        await connection.execute("UPDATE store.jobs SET leased_until = '-infinity'")
    begun.clear()
    async with worker_of(jobs, handle).working(grace_s=5):
        await asyncio.wait_for(begun.wait(), 5)
    assert told == ["over", "over"]
    (due,) = await jobs.due()  # given back at once, for the next worker
    assert await jobs.lease(due, uuid4(), 1.0)


class SlowQueue:
    """A queue whose row is due again before the call that gave it back has returned."""

    def __init__(self) -> None:
        self.job = Job("demo", "campaign", uuid4())
        self.looked = asyncio.Event()

    async def due(self) -> list[Job]:
        self.looked.set()
        return [self.job]

    async def lease(self, job: Job, by: UUID, seconds: float) -> bool:
        return True

    async def release(self, job: Job, by: UUID, due_in_s: float | None) -> None:
        self.looked.clear()
        await self.looked.wait()


async def test_a_job_that_is_due_again_while_it_is_given_back_is_begun_once() -> None:
    running, begun = 0, 0

    async def handle(_: Job, lease: Lease) -> float | None:
        nonlocal running, begun
        running, begun = running + 1, begun + 1
        assert running == 1
        await asyncio.sleep(0)
        running -= 1
        return 0.0

    async def went_on() -> bool:
        return begun > 3

    worker = Worker(SlowQueue(), {"campaign": handle}, lease_s=5, poll_s=0.01)
    async with worker.working(grace_s=1):
        await wait_until(went_on)
