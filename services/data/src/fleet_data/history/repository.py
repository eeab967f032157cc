"""The SQL of history: reading the change log, and the statements that put rows back."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID

from fleet_common.postgres import PostgresRecords
from fleet_data.claims import Caller
from fleet_data.crm.changing import ChangeSet
from fleet_data.crm.repository.merge import expect
from fleet_data.history.models import UNLOGGED, Entry, Reversal
from fleet_data.pool import Connection, Database

# The log says what was before a change; what was after it follows from the present and from later changes.
_ENTRIES = """
SELECT l.id AS number, l.version, l.changed_at, l.actor, s.tool, l.change_set AS change_set_id,
    is_then.row || l.before AS before, is_then.row AS after
FROM store.change_log l JOIN store.{table} c ON c.tenant = l.tenant AND c.id = l.record_id
CROSS JOIN LATERAL (
    SELECT to_jsonb(c) - 'tenant' || store.changed_after(l.tenant, l.record_id, l.id) AS row OFFSET 0
) is_then
LEFT JOIN store.change_sets s ON s.tenant = l.tenant AND s.id = l.change_set
WHERE l.object = $1 AND l.record_id = $2::text::uuid AND l.id < $3
ORDER BY l.id DESC LIMIT $4
"""
# A record may have changed several times in one set: it goes back to before the first time.
_REVERSALS = """
WITH touched AS (
    SELECT l.object, l.record_id, min(l.id) AS first, max(l.id) AS last
    FROM store.change_sets s JOIN store.change_log l ON l.tenant = s.tenant AND l.change_set = s.id
        AND l.id BETWEEN s.first_change AND s.last_change
    WHERE s.id = $1::text::uuid GROUP BY l.object, l.record_id
)
SELECT t.object, t.record_id AS id, t.first, t.last, l.before IS NULL AS made
FROM touched t JOIN store.change_log l ON l.id = t.first ORDER BY t.object, t.record_id
"""
_LOCK = """
SELECT FROM store.{table} c JOIN jsonb_to_recordset($1) AS r (id uuid) ON r.id = c.id ORDER BY c.id FOR UPDATE OF c
"""
# Without the columns that say who changed a row last and how often.
_PRESENT = """
SELECT c.id, c.version, c.deleted_at IS NOT NULL AS is_deleted,
    now.row || (store.changed_after(c.tenant, c.id, r.last) - $2::text[]) = now.row AS is_as_left,
    (now.row || store.changed_after(c.tenant, c.id, r.first - 1)) ->> 'deleted_at' IS NOT NULL AS was_deleted
FROM store.{table} c
JOIN jsonb_to_recordset($1) AS r (id uuid, first bigint, last bigint) ON r.id = c.id
CROSS JOIN LATERAL (SELECT to_jsonb(c) - $2::text[] AS row OFFSET 0) now
"""
_COLUMNS = """
SELECT attname FROM pg_attribute
WHERE attrelid = ('store.' || $1::text)::regclass AND attnum > 0 AND NOT attisdropped AND NOT attname = ANY ($2)
"""
# Straight from the log into the table: no number loses a digit on the way. A column that did not change since, or
# is younger, keeps its value.
_RESTORE = """
UPDATE store.{table} t SET updated_by = $2, ({columns}) = (
    SELECT {columns} FROM jsonb_populate_record(t, store.changed_after($1, t.id, r.first - 1))
)
FROM jsonb_to_recordset($3) AS r (id uuid, first bigint, at integer)
WHERE t.tenant = $1 AND t.id = r.id AND t.version = r.at
"""
# The statuses that leads whose status went back entered since were not entered, after all; and the one they went back
# to was not entered just now, unless it is another than the one before.
_UNENTER = """
WITH back AS (
    SELECT r.id, l.changed_at, (
        SELECT h.status FROM store.lead_status_history h
        WHERE h.lead_id = r.id AND h.entered_at < l.changed_at ORDER BY h.entered_at DESC LIMIT 1
    ) AS before
    FROM jsonb_to_recordset($1) AS r (id uuid, first bigint) JOIN store.change_log l ON l.id = r.first
    WHERE EXISTS (SELECT FROM store.lead_status_history h WHERE h.lead_id = r.id AND h.entered_at = now())
)
DELETE FROM store.lead_status_history h USING back
WHERE h.lead_id = back.id AND h.entered_at >= back.changed_at
    AND (h.entered_at < now() OR h.status = back.before)
"""
_REMOVE = """
MERGE INTO store.{table} AS t USING jsonb_to_recordset($3) AS s (id uuid, at integer)
ON t.tenant = $1 AND t.id = s.id AND t.version = s.at
WHEN MATCHED THEN UPDATE SET updated_by = $2, deleted_at = now()
"""


class HistoryRepository:
    """The change log in PostgreSQL."""

    def __init__(self, database: Database, tables: Mapping[str, str]) -> None:
        """Use the tables of schema store that `tables` names, by object."""
        self._database = database
        self._tables = tables

    async def entries(
        self, caller: Caller, name: str, id_: UUID, *, before: int, limit: int
    ) -> list[Entry]:
        """Return changes of a record below a number, newest first."""
        # The log holds whole rows, masked fields too, so the reader has no view of it.
        async with self._database.writing(caller, keep=False) as connection:
            rows = await connection.fetch(
                _ENTRIES.format(table=self._tables[name]), name, str(id_), before, limit
            )
        return [Entry(**row) for row in rows]

    @asynccontextmanager
    async def changing(
        self, caller: Caller, *, change_set: ChangeSet, keep: bool
    ) -> AsyncGenerator[UndoTransaction]:
        """Yield a transaction that is kept when `keep` is true and nothing is raised."""
        settings = change_set.settings
        async with self._database.writing(caller, settings=settings, keep=keep) as connection:
            yield UndoTransaction(connection, caller, self._tables)


class UndoTransaction:
    """Puts records back, all of them or none."""

    def __init__(self, connection: Connection, caller: Caller, tables: Mapping[str, str]) -> None:
        self.records = PostgresRecords(connection, table="store.idempotency")
        self._connection = connection
        self._caller = caller
        self._tables = tables

    async def reversals(self, change_set: UUID) -> list[Reversal]:
        """Return what undoing the set means, and lock its records."""
        found = [
            Reversal(**row) for row in await self._connection.fetch(_REVERSALS, str(change_set))
        ]
        await expect(self._connection, len(found))
        present: dict[str, Reversal] = {}
        for name in sorted({each.object for each in found} & self._tables.keys()):
            present.update(await self._present(name, [e for e in found if e.object == name]))
        return [present.get(each.id, each) for each in found]

    async def restore(self, name: str, reversals: Sequence[Reversal]) -> int:
        """Return how many records of one object are as they were; each only if still at its version."""
        table = self._tables[name]
        found = await self._connection.fetch(_COLUMNS, table, ["tenant", *UNLOGGED])
        columns = ", ".join(f'"{row["attname"]}"' for row in found)
        rows = [{"id": each.id, "first": each.first, "at": each.version} for each in reversals]
        restored = await self._changed(_RESTORE.format(table=table, columns=columns), rows)
        if name == "lead":
            await self._connection.execute(_UNENTER, rows)
        return restored

    async def remove(self, name: str, reversals: Sequence[Reversal]) -> int:
        """Return how many records of one object are deleted; each only if still at its version."""
        rows = [{"id": each.id, "at": each.version} for each in reversals]
        return await self._changed(_REMOVE.format(table=self._tables[name]), rows)

    async def _changed(self, sql: str, rows: Sequence[Mapping[str, Any]]) -> int:
        who = self._caller
        status = await self._connection.execute(sql, who.tenant, who.subject, rows)
        return int(status.split()[-1])

    async def _present(self, name: str, found: Sequence[Reversal]) -> dict[str, Reversal]:
        """Return the records that are there, locked, with how they are at present."""
        table = self._tables[name]
        told = [{"id": each.id, "first": each.first, "last": each.last} for each in found]
        # A statement of its own: what others did while it waited for them is in the log that the next one reads.
        await self._connection.execute(_LOCK.format(table=table), told)
        own = ["tenant", *UNLOGGED]
        rows = await self._connection.fetch(_PRESENT.format(table=table), told, own)
        by_id = {each.id: each for each in found}
        return {row["id"]: replace(by_id[row["id"]], **row) for row in rows}
