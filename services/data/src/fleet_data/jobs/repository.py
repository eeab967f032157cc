"""The queue in PostgreSQL: a lease is taken by one UPDATE, so two workers never have the same job.

Whoever leases a job sets `due_at` back to `-infinity`. Another value, when the job is given back, is one that was
set meanwhile, and then it counts: nobody's wish to run it again is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from fleet_data.claims import Caller
from fleet_data.jobs.models import Job
from fleet_data.pool import Connection, Database

_WORKER = "worker"
_DUE = """
SELECT tenant, kind, id FROM store.jobs WHERE due_at <= now() AND leased_until <= now() ORDER BY due_at LIMIT 50
"""
_PENDING = "SELECT kind, count(*) AS pending FROM store.jobs WHERE due_at <= now() GROUP BY kind"


class JobRepository:
    """What is due, of every tenant."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def due(self) -> Sequence[Job]:
        """Return what is due and nobody works on, oldest first."""
        rows = await self._database.bare(_DUE, role="writer")
        return [Job(row["tenant"], row["kind"], UUID(row["id"])) for row in rows]

    async def pending(self) -> dict[str, int]:
        """Return how many jobs are due by kind, those that are worked on included."""
        rows = await self._database.bare(_PENDING, role="writer")
        return {row["kind"]: int(row["pending"]) for row in rows}

    async def lease(self, job: Job, by: UUID, seconds: float) -> bool:
        """Take the job, or hold it for longer; False when it is another's, or no longer due."""
        return await self._change(
            job,
            "UPDATE store.jobs SET due_at = CASE WHEN leased_by = $3 THEN due_at ELSE '-infinity' END, "
            "leased_by = $3, leased_until = now() + $4 * interval '1 second' "
            "WHERE kind = $1 AND id = $2 AND (leased_by = $3 OR leased_until <= now() AND due_at <= now()) "
            "RETURNING true",
            by,
            seconds,
        )

    async def release(self, job: Job, by: UUID, due_in_s: float | None) -> None:
        """Give the job back, due in so many seconds; None ends it, unless it was made due anew meanwhile."""
        ended = due_in_s is None and await self._change(
            job,
            "DELETE FROM store.jobs WHERE kind = $1 AND id = $2 AND leased_by = $3 "
            "AND due_at = '-infinity' RETURNING true",
            by,
        )
        if not ended:
            await self._change(
                job,
                "UPDATE store.jobs SET leased_until = '-infinity', due_at = CASE WHEN due_at = '-infinity' "
                "THEN now() + $4 * interval '1 second' ELSE due_at END "
                "WHERE kind = $1 AND id = $2 AND leased_by = $3 RETURNING true",
                by,
                due_in_s or 0.0,
            )

    async def _change(self, job: Job, statement: str, *args: object) -> bool:
        async with self._database.writing(Caller(job.tenant, _WORKER)) as connection:
            return bool(await connection.fetchval(statement, job.kind, job.id, *args))


async def make_due(connection: Connection, job: Job, *, at: str | None = None) -> None:
    """Make a job due, now or at an ISO time, in the transaction of `connection`."""
    await connection.execute(
        "INSERT INTO store.jobs (tenant, kind, id, due_at) "
        "VALUES ($1, $2, $3, coalesce($4::text::timestamptz, now())) "
        "ON CONFLICT (tenant, kind, id) DO UPDATE SET due_at = excluded.due_at",
        job.tenant,
        job.kind,
        job.id,
        at,
    )
