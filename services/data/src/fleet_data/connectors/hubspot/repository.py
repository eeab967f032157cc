"""The SQL of the sync: refs, cursors, runs, issues, and what a webhook named.

Everything that a batch comes to is one transaction: records, refs, issues and the position of the run. A process that
dies leaves a batch that happened or one that did not.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any
from uuid import UUID

import asyncpg

from fleet_common.errors import NotFound
from fleet_data.claims import Caller
from fleet_data.connectors.hubspot.models import (
    BATCH,
    SOURCE,
    Candidate,
    Issue,
    Position,
    Ref,
    Request,
    Run,
    Synced,
    Tally,
)
from fleet_data.crm.changing import ChangeSet
from fleet_data.crm.models import FieldDef
from fleet_data.crm.objects import OBJECTS
from fleet_data.crm.repository.store import CrmTransaction
from fleet_data.errors import Contended
from fleet_data.ids import uuid7
from fleet_data.jobs.models import Job
from fleet_data.jobs.repository import make_due
from fleet_data.pool import Database

_RUN = """
SELECT id, request, state, position, counts, error, round(extract(epoch FROM created_at) * 1000)::bigint AS started_ms
FROM store.sync_runs
"""
_REFS = """
SELECT external_id, record_id, base, version, modified_ms, state FROM store.external_refs
WHERE source = 'hubspot' AND object = $1
"""
# Through the index on (updated_at, id). A change is seen up to a day after its time: that is how long the transaction
# that made it may have taken.
_UNTOLD = """
FROM store.{table} c LEFT JOIN store.external_refs r
    ON r.tenant = c.tenant AND r.source = 'hubspot' AND r.object = $1 AND r.record_id = c.id
WHERE c.updated_at >= $2::text::timestamptz - interval '1 day'
    AND ($3::text IS NULL OR (c.updated_at, c.id) > ($3::text::timestamptz, $4::text::uuid))
    AND CASE WHEN r.record_id IS NULL THEN c.deleted_at IS NULL ELSE r.state <> 'gone_there' AND r.version <> c.version
        AND (r.state = 'live' OR c.deleted_at IS NULL) END
"""
_CANDIDATES = f"""
SELECT c.id AS record_id, c.updated_at::text AS updated_at, r.external_id, c.deleted_at IS NOT NULL AS is_deleted
{_UNTOLD} ORDER BY c.updated_at, c.id LIMIT {BATCH}
"""
_COUNTED = f"""
SELECT CASE WHEN c.deleted_at IS NOT NULL THEN 'deleted' WHEN r.external_id IS NULL THEN 'created' ELSE 'changed' END
    AS what, count(*) AS records
{_UNTOLD} GROUP BY 1
"""
_SAVE_REF = """
INSERT INTO store.external_refs (tenant, source, object, external_id, record_id, base, version, modified_ms, state)
SELECT $1, 'hubspot', $2, s.* FROM jsonb_to_recordset($3) AS s
    (external_id text, record_id uuid, base jsonb, version integer, modified_ms bigint, state text)
ON CONFLICT (tenant, source, object, external_id) DO UPDATE SET base = excluded.base, version = excluded.version,
    modified_ms = greatest(external_refs.modified_ms, excluded.modified_ms), state = excluded.state, updated_at = now()
"""
_SAVE_ISSUES = """
INSERT INTO store.sync_issues (tenant, source, object, kind, external_id, record_id, fields, winner, message)
SELECT $1, 'hubspot', s.* FROM jsonb_to_recordset($2) AS s
    (object text, kind text, external_id text, record_id uuid, fields jsonb, winner text, message text)
ON CONFLICT (tenant, source, object, kind, external_id, record_id, digest)
    DO UPDATE SET times = sync_issues.times + 1, last_at = now()
"""


class SyncRepository:
    """The sync in PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def changing(
        self, caller: Caller, *, keep: bool = True
    ) -> AsyncGenerator[SyncTransaction]:
        """Yield a transaction; what it did stays only when `keep` is true and nothing was raised."""
        change_set = ChangeSet(uuid7(), "connector_sync")
        settings = change_set.settings
        async with self._database.writing(caller, settings=settings, keep=keep) as connection:
            yield SyncTransaction(connection, caller, change_set.id)

    async def issues(
        self, caller: Caller, *, before: int | None, limit: int
    ) -> list[dict[str, Any]]:
        """Return what somebody should look at, newest first."""
        async with self._database.reading(caller) as connection:
            rows = await connection.fetch(
                "SELECT * FROM crm.sync_issues WHERE source = 'hubspot' "
                "AND ($1::bigint IS NULL OR id < $1) ORDER BY id DESC LIMIT $2",
                before,
                limit,
            )
        return [dict(row) for row in rows]


class SyncTransaction(CrmTransaction):
    """What one batch comes to, together or not at all."""

    def __init__(self, connection: Any, caller: Caller, change_set: UUID) -> None:
        super().__init__(connection, caller)
        self.change_set = change_set

    # -- runs

    async def start(self, request: Request) -> UUID:
        """Make a run and its job.

        Raises:
            AlreadyExists: one is under way.
        """
        id_ = uuid7()
        await self._connection.execute(
            "INSERT INTO store.sync_runs (tenant, id, source, request, position, created_by) "
            "VALUES ($1, $2, $3, $4, $5, $6)",
            self._caller.tenant,
            id_,
            SOURCE,
            asdict(request),
            asdict(Position()),
            self._caller.subject,
        )
        await make_due(self._connection, Job(self._caller.tenant, "sync", id_))
        return id_

    async def run(self, id_: UUID) -> Run:
        """Return a run.

        Raises:
            NotFound: there is none.
        """
        row = await self._connection.fetchrow(f"{_RUN} WHERE id = $1", id_)
        if row is None:
            raise NotFound("sync", id_)
        return _run(row)

    async def latest(self) -> Run | None:
        """Return the newest run."""
        row = await self._connection.fetchrow(
            f"{_RUN} WHERE source = $1 ORDER BY id DESC LIMIT 1", SOURCE
        )
        return None if row is None else _run(row)

    async def advance(self, run: Run, to: Position, counts: Mapping[str, int]) -> None:
        """Move a run on from where `run` says it is.

        Raises:
            Contended: another worker has moved it meanwhile, so this batch must not count.
        """
        moved = await self._connection.fetchval(
            "UPDATE store.sync_runs SET position = $3, counts = $4, error = NULL, updated_at = now() "
            "WHERE id = $1 AND position = $2 AND state = 'queued' RETURNING true",
            run.id,
            asdict(run.position),
            asdict(to),
            run.counted(counts),
        )
        if not moved:
            raise Contended

    async def finish(self, run: Run, state: str, error: str | None = None) -> None:
        """End a run."""
        await self._connection.execute(
            "UPDATE store.sync_runs SET state = $2, error = $3, updated_at = now() "
            "WHERE id = $1 AND state = 'queued'",
            run.id,
            state,
            error,
        )

    async def note(self, run: Run, error: str) -> None:
        """Say why a run waits."""
        await self._connection.execute(
            "UPDATE store.sync_runs SET error = $2, updated_at = now() WHERE id = $1 AND state = 'queued'",
            run.id,
            error,
        )

    # -- cursors

    async def lock(self, name: Synced) -> int:
        """Let nobody else match records of this object until the end; return the time pulled to, in ms."""
        await self._connection.execute(
            "INSERT INTO store.sync_cursors (tenant, source, object) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
            self._caller.tenant,
            SOURCE,
            name,
        )
        pulled: int = await self._connection.fetchval(
            "SELECT pulled_ms FROM store.sync_cursors WHERE source = $1 AND object = $2 FOR UPDATE",
            SOURCE,
            name,
        )
        return pulled

    async def pulled(self, name: Synced, to_ms: int) -> None:
        """Remember that all of HubSpot up to this time has been seen."""
        await self._connection.execute(
            "UPDATE store.sync_cursors SET pulled_ms = greatest(pulled_ms, $3) WHERE source = $1 AND object = $2",
            SOURCE,
            name,
            to_ms,
        )

    async def pushed(self, name: Synced, run: Run) -> None:
        """Remember that everything from before the run has been told."""
        await self._connection.execute(
            "UPDATE store.sync_cursors SET pushed_at = greatest(pushed_at, r.created_at) FROM store.sync_runs r "
            "WHERE sync_cursors.source = $1 AND object = $2 AND r.id = $3",
            SOURCE,
            name,
            run.id,
        )

    async def candidates(
        self, name: Synced, *, since: str | None, after: tuple[str, str] | None
    ) -> list[Candidate]:
        """Return records of ours that HubSpot does not know as they are, the oldest change first; at most a batch."""
        start = since or await self._told_until(name)
        sql = _CANDIDATES.format(table=OBJECTS[name].table)
        rows = await self._connection.fetch(sql, name, start, *(after or (None, None)))
        return [Candidate(**{**row, "record_id": UUID(row["record_id"])}) for row in rows]

    async def counted(self, name: Synced, *, since: str | None) -> dict[str, int]:
        """Return how many records of ours HubSpot would be told of: created, changed, deleted."""
        start = since or await self._told_until(name)
        sql = _COUNTED.format(table=OBJECTS[name].table)
        rows = await self._connection.fetch(sql, name, start, None, None)
        return {row["what"]: row["records"] for row in rows}

    async def _told_until(self, name: Synced) -> str:
        until: str = await self._connection.fetchval(
            "SELECT coalesce((SELECT pushed_at FROM store.sync_cursors WHERE source = $1 AND object = $2), "
            "'-infinity')::text",
            SOURCE,
            name,
        )
        return until

    # -- refs

    async def refs(self, name: Synced, external_ids: Sequence[str]) -> dict[str, Ref]:
        """Return what is known of records of HubSpot's, by their ids, and lock it."""
        rows = await self._connection.fetch(
            f"{_REFS} AND external_id = ANY($2::text[]) ORDER BY external_id FOR UPDATE",
            name,
            list(external_ids),
        )
        return {row["external_id"]: _ref(row) for row in rows}

    async def refs_of(self, name: Synced, record_ids: Sequence[UUID]) -> dict[UUID, Ref]:
        """Return what HubSpot calls records of ours, by our ids."""
        rows = await self._connection.fetch(
            f"{_REFS} AND record_id = ANY($2::text[]::uuid[])", name, [*map(str, record_ids)]
        )
        return {UUID(row["record_id"]): _ref(row) for row in rows}

    async def save_refs(self, name: Synced, refs: Sequence[Ref]) -> None:
        """Keep what both sides have now."""
        if not refs:
            return
        told = [{**asdict(ref), "record_id": str(ref.record_id)} for ref in refs]
        await self._connection.execute(_SAVE_REF, self._caller.tenant, name, told)

    async def lose(self, name: Synced, external_ids: Sequence[str], state: str) -> list[Ref]:
        """Note that records are gone on one side; return those of which that is news."""
        rows = await self._connection.fetch(
            "UPDATE store.external_refs SET state = $3, updated_at = now() WHERE source = 'hubspot' AND object = $1 "
            "AND external_id = ANY($2::text[]) AND state = 'live' "
            "RETURNING external_id, record_id, base, version, modified_ms, state",
            name,
            list(external_ids),
            state,
        )
        return [_ref(row) for row in rows]

    # -- the rest

    async def customs(self, name: Synced) -> list[FieldDef]:
        """Return the custom properties of an object."""
        return [definition.field for definition in await self.properties(name)]

    async def save_issues(self, tally: Tally) -> None:
        """Keep what somebody should look at."""
        if tally.issues:
            told = [_told(issue) for issue in tally.issues]
            await self._connection.execute(_SAVE_ISSUES, self._caller.tenant, told)

    async def drop(self, name: Synced, noted: Mapping[str, str]) -> None:
        """Forget what a webhook named, unless it was named again meanwhile."""
        await self._connection.execute(
            "DELETE FROM store.sync_inbox i USING jsonb_to_recordset($3) AS s (id text, at timestamptz) "
            "WHERE i.source = $1 AND i.object = $2 AND i.external_id = s.id AND i.noted_at = s.at",
            SOURCE,
            name,
            [{"id": id_, "at": at} for id_, at in noted.items()],
        )

    async def inbox(self) -> dict[Synced, dict[str, str]]:
        """Return what webhooks named and when, by object; at most a batch of it."""
        rows = await self._connection.fetch(
            "SELECT object, external_id, noted_at::text AS noted_at FROM store.sync_inbox WHERE source = $1 "
            "ORDER BY noted_at LIMIT $2",
            SOURCE,
            BATCH,
        )
        found: dict[Synced, dict[str, str]] = {}
        for row in rows:
            found.setdefault(row["object"], {})[row["external_id"]] = row["noted_at"]
        return found

    async def remember(self, named: Mapping[Synced, Sequence[str]], job: UUID) -> None:
        """Keep what a webhook named, and wake whoever reads it anew."""
        rows = [{"object": name, "id": id_} for name, ids in named.items() for id_ in ids]
        await self._connection.execute(
            "INSERT INTO store.sync_inbox (tenant, source, object, external_id) "
            "SELECT $1, $2, s.object, s.id FROM jsonb_to_recordset($3) AS s (object text, id text) "
            "ON CONFLICT (tenant, source, object, external_id) DO UPDATE SET noted_at = clock_timestamp()",
            self._caller.tenant,
            SOURCE,
            rows,
        )
        await make_due(self._connection, Job(self._caller.tenant, "sync_inbox", job))


def _run(row: asyncpg.Record) -> Run:
    facts = dict(row)
    facts["id"] = UUID(facts["id"])
    facts["request"] = Request(**facts["request"])
    facts["position"] = Position(**facts["position"])
    return Run(**facts)


def _ref(row: asyncpg.Record) -> Ref:
    return Ref(**{**row, "record_id": UUID(row["record_id"])})


def _told(issue: Issue) -> dict[str, Any]:
    record = None if issue.record_id is None else str(issue.record_id)
    return {**asdict(issue), "record_id": record}
