"""The rows of jobs: made once per call, claimed by one worker at a time, and ended by whoever holds the claim."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, get_args

import asyncpg

from fleet_common.digests import digest_of
from fleet_common.errors import FleetError, KeyReused
from fleet_data.claims import Caller
from fleet_data.ids import uuid7
from fleet_data.pool import Connection, Database
from fleet_data.transfer.models import Due, Finished, Job, Kind, Progress

_COLUMNS = (
    "tenant, id, subject, state, request, attempts, rows, bytes, file, sha256, result, error_code, error, "
    "created_at, finished_at, expires_at"
)
_ERROR_CHARS = 500


async def due_jobs(database: Database) -> Sequence[Due]:
    """Return what somebody must look after, of every tenant, the oldest first."""
    rows = await database.bare("SELECT * FROM store.due_transfers()", role="writer")
    return [Due(**row) for row in rows]


class Depth:
    """How many jobs are due or under way."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def pending(self) -> Mapping[str, int]:
        """Return the numbers by kind."""
        rows = await self._database.bare("SELECT * FROM store.transfer_depth()", role="writer")
        return {row["kind"]: row["jobs"] for row in rows}


class Jobs:
    """The jobs of one kind."""

    def __init__(self, database: Database, kind: Kind) -> None:
        assert kind in get_args(Kind)  # noqa: S101 - it becomes part of a name in SQL
        self._database = database
        self._table = f"store.{kind}_jobs"

    async def create(
        self, caller: Caller, request: Mapping[str, Any], *, key: str | None, life: timedelta
    ) -> Job:
        """Return a new job that waits for a worker, or the one that `key` named before.

        Raises:
            KeyReused: the key named another request.
            UnknownTenant: the tenant has no CRM.
        """
        digest = digest_of(request)
        async with self._database.writing(caller) as connection:
            row = await connection.fetchrow(
                f"INSERT INTO {self._table} AS j (tenant, id, subject, call_key, digest, request, expires_at) "  # noqa: S608 - a name of ours
                "VALUES ($1, $2, $3, $4, $5, $6, now() + $7::text::interval) "
                # A no-op, so that the row that is there is returned, too.
                "ON CONFLICT (tenant, subject, call_key) DO UPDATE SET call_key = j.call_key "
                f"RETURNING {_COLUMNS}, digest",
                caller.tenant,
                str(uuid7()),
                caller.subject,
                key,
                digest,
                request,
                _interval(life.total_seconds()),
            )
        assert row is not None  # noqa: S101 - inserted or found
        if row["digest"] != digest:
            raise KeyReused
        return _job(row)

    async def get(self, caller: Caller, id_: str) -> Job | None:
        """Return a job of this caller."""
        async with self._database.writing(caller, keep=False) as connection:
            row = await connection.fetchrow(
                f"SELECT {_COLUMNS} FROM {self._table} WHERE id = $1 AND subject = $2",  # noqa: S608 - a name of ours
                id_,
                caller.subject,
            )
        return None if row is None else _job(row)

    async def of_link(self, tenant: str, id_: str) -> Job | None:
        """Return a job whose link somebody has; the link's signature names the tenant."""
        async with self._database.writing(Caller(tenant, "link"), keep=False) as connection:
            row = await connection.fetchrow(
                f"SELECT {_COLUMNS} FROM {self._table} WHERE id = $1",  # noqa: S608 - a name of ours
                id_,
            )
        return None if row is None else _job(row)

    async def claim(self, due: Due, *, worker: str, lease_s: float) -> Job | None:
        """Return the job, now this worker's for `lease_s` seconds; None when another one has it."""
        return await self._changed(
            Caller(due.tenant, due.subject),
            "state = 'running', worker = $2, lease_until = now() + $3::text::interval, "
            "attempts = attempts + 1, started_at = coalesce(started_at, now()), rows = 0, bytes = 0",
            "state = 'queued' OR (state = 'running' AND lease_until < now())",
            due.id,
            worker,
            _interval(lease_s),
        )

    async def renew(self, job: Job, progress: Progress, *, worker: str, lease_s: float) -> bool:
        """Keep the claim and say how far the job is; false when it is this worker's no more."""
        return await self._held(
            job,
            "lease_until = now() + $3::text::interval, rows = $4, bytes = $5",
            worker,
            _interval(lease_s),
            progress.rows,
            progress.bytes,
        )

    async def finish(self, job: Job, done: Finished, *, worker: str) -> bool:
        """Record what the job left; false when it is this worker's no more."""
        return await self._held(
            job,
            "state = 'done', finished_at = now(), rows = $3, bytes = $4, file = $5, sha256 = $6, result = $7",
            worker,
            done.rows,
            done.bytes,
            done.file,
            done.sha256,
            dict(done.result),
        )

    async def finish_in(self, connection: Connection, job: Job, done: Finished) -> bool:
        """Record what the job left in the transaction that did it; false when the job is this attempt's no more."""
        found = await connection.fetchval(
            f"UPDATE {self._table} SET state = 'done', finished_at = now(), rows = $3, bytes = $4, file = $5, "  # noqa: S608 - a name of ours
            "sha256 = $6, result = $7 WHERE id = $1 AND state = 'running' AND attempts = $2 RETURNING true",
            *(
                job.id,
                job.attempts,
                done.rows,
                done.bytes,
                done.file,
                done.sha256,
                dict(done.result),
            ),
        )
        return found is True

    async def fail(self, job: Job, error: FleetError, *, worker: str) -> bool:
        """Record why the job failed."""
        text = error.message if error.hint is None else f"{error.message}. {error.hint}"
        return await self._held(
            job,
            "state = 'failed', finished_at = now(), error_code = $3, error = $4",
            worker,
            error.code,
            text[:_ERROR_CHARS],
        )

    async def hand_back(self, job: Job, *, worker: str) -> bool:
        """Let the next worker have the job at once."""
        return await self._held(job, "state = 'queued', worker = NULL", worker)

    async def cancel(self, caller: Caller, id_: str) -> Job | None:
        """Return the job, cancelled; None when it had ended otherwise."""
        return await self._changed(
            caller,
            "state = 'cancelled', finished_at = now()",
            "state IN ('queued', 'running', 'done') AND subject = $2",
            id_,
            caller.subject,
        )

    async def expire(self, due: Due) -> None:
        """Record that nothing is left of the job but its row."""
        await self._changed(Caller(due.tenant, due.subject), "state = 'expired'", "true", due.id)

    async def _held(self, job: Job, changes: str, worker: str, *values: Any) -> bool:
        found = await self._changed(
            Caller(job.tenant, job.subject),
            changes,
            "state = 'running' AND worker = $2",
            job.id,
            worker,
            *values,
        )
        return found is not None

    async def _changed(self, caller: Caller, changes: str, only: str, *values: Any) -> Job | None:
        """Return the job `$1`, changed, if it is in a state that allows it."""
        async with self._database.writing(caller) as connection:
            row = await connection.fetchrow(
                f"UPDATE {self._table} SET {changes} WHERE id = $1 AND ({only}) RETURNING {_COLUMNS}",  # noqa: S608 - names of ours
                *values,
            )
        return None if row is None else _job(row)


def _job(row: asyncpg.Record) -> Job:
    return Job(**{name: value for name, value in row.items() if name != "digest"})


def _interval(seconds: float) -> str:
    return f"{seconds:.3f} seconds"
