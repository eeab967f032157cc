"""The SQL of segments: counting whom a filter finds, and keeping lists of members."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection
from contextlib import asynccontextmanager
from uuid import UUID

from fleet_common.errors import Conflict, NotFound
from fleet_common.postgres import PostgresRecords
from fleet_data.claims import Caller
from fleet_data.crm.changing import ChangeSet
from fleet_data.crm.objects import OBJECTS
from fleet_data.crm.questions import Question
from fleet_data.crm.repository.sql import Arguments, condition_sql
from fleet_data.crm.values import parse_value
from fleet_data.pool import Connection, Database
from fleet_data.segments.models import Counts

# As store.mail_block() decides it for one address; for all at once that takes a hundred times as long.
_BLOCKS = """
SELECT count(*) AS size, count(*) FILTER (WHERE address IS NULL) AS no_address,
    count(*) FILTER (WHERE suppressed) AS suppressed,
    count(*) FILTER (WHERE address IS NOT NULL AND NOT suppressed AND NOT agreed) AS no_consent
FROM (
    SELECT f.address,
        coalesce(f.address IN (SELECT s.address FROM crm.suppressions s WHERE s.channel = 'email'), false)
            AS suppressed,
        coalesce(f.address IN (SELECT c.address FROM crm.consents c WHERE c.channel = 'email'
            AND c.purpose = 'marketing' AND c.state = 'granted'), false) AS agreed
    FROM (SELECT lower(r0.email) AS address {found}) f
) AS judged
"""
_REASONS = ("no_address", "suppressed", "no_consent")


class SegmentRepository:
    """Segments in PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def count(self, caller: Caller, asked: Question) -> Counts:
        """Return how many records are found, and of those with mail addresses how many may not be written to."""
        args = Arguments()
        where = "true"
        if asked.where is not None:
            where = condition_sql(asked.of, asked.where, asked.objects, args, parse_value)
        found = f"FROM crm.{asked.of.table} r0 WHERE {where}"
        has_mail = "email" in asked.of.fields
        sql = _BLOCKS.format(found=found) if has_mail else f"SELECT count(*) AS size {found}"
        async with self._database.reading(caller) as connection:
            [row] = await connection.fetch(sql, *args.values)
        if not has_mail:
            return Counts(row["size"])
        return Counts(row["size"], {name: row[name] for name in _REASONS if row[name]})

    async def named(self, caller: Caller, name: str) -> str | None:
        """Return the id of the segment of this id or name, or None."""
        async with self._database.reading(caller) as connection:
            found: str | None = await connection.fetchval(
                "SELECT id FROM crm.segments WHERE id::text = $1 OR name = $1 ORDER BY name = $1 LIMIT 1",
                name,
            )
        return found

    @asynccontextmanager
    async def changing(
        self, caller: Caller, *, change_set: ChangeSet, keep: bool
    ) -> AsyncGenerator[SegmentTransaction]:
        """Yield a transaction that is kept when `keep` is true and nothing is raised."""
        settings = change_set.settings
        async with self._database.writing(caller, settings=settings, keep=keep) as connection:
            yield SegmentTransaction(connection, caller)


class SegmentTransaction:
    """What happens to one caller's lists, together or not at all."""

    def __init__(self, connection: Connection, caller: Caller) -> None:
        self.records = PostgresRecords(connection, table="store.idempotency")
        self._connection = connection
        self._caller = caller

    async def listed(self, segment: UUID) -> str:
        """Return the object whose records a list holds; the segment stays until the transaction ends.

        Raises:
            NotFound: there is no such segment.
            Conflict: it is a filter.
        """
        row = await self._connection.fetchrow(
            "SELECT object, kind FROM store.segments WHERE id = $1 AND deleted_at IS NULL FOR SHARE",
            str(segment),
        )
        if row is None:
            raise NotFound("segment", segment)
        if row["kind"] != "static":
            raise Conflict(
                "this segment is a filter and has no list of members",
                hint="Change its filter with crm_upsert",
            )
        name: str = row["object"]
        return name

    async def existing(self, name: str, ids: Collection[str]) -> set[str]:
        """Return those of the ids that are records of this object."""
        rows = await self._connection.fetch(
            f"SELECT id FROM store.{OBJECTS[name].table} WHERE deleted_at IS NULL AND id = ANY($1::text[]::uuid[])",  # noqa: S608 - names of the registry
            list(ids),
        )
        return {row["id"] for row in rows}

    async def add(self, segment: UUID, ids: Collection[str]) -> int:
        """Put records into a list and return how many are new there."""
        status = await self._connection.execute(
            "INSERT INTO store.segment_members (tenant, segment_id, record_id, added_by) "
            "SELECT $1, $2, id, $3 FROM unnest($4::text[]::uuid[]) AS given (id) ON CONFLICT DO NOTHING",
            self._caller.tenant,
            str(segment),
            self._caller.subject,
            list(ids),
        )
        return int(status.split()[-1])

    async def remove(self, segment: UUID, ids: Collection[str]) -> int:
        """Take records out of a list and return how many were there."""
        status = await self._connection.execute(
            "DELETE FROM store.segment_members WHERE segment_id = $1 AND record_id = ANY($2::text[]::uuid[])",
            str(segment),
            list(ids),
        )
        return int(status.split()[-1])

    async def size(self, segment: UUID) -> int:
        """Return how many members a list has."""
        query = "SELECT count(*) FROM store.segment_members WHERE segment_id = $1"
        count: int = await self._connection.fetchval(query, str(segment))
        return count
