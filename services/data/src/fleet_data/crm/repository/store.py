"""Reading pages and records, and the transactions that change them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg

from fleet_common.errors import FleetError
from fleet_common.postgres import PostgresRecords
from fleet_data.claims import Caller
from fleet_data.crm.models import FieldDef, ObjectDef, Position, Search, Stored, Write
from fleet_data.crm.repository.sql import ParseValue, columns, recordset, search_sql, sql_type
from fleet_data.errors import translated
from fleet_data.pool import Connection, Database


class CrmRepository:
    """The CRM in PostgreSQL."""

    def __init__(self, database: Database, *, parse: ParseValue) -> None:
        self._database = database
        self._parse = parse

    async def search(
        self, caller: Caller, search: Search
    ) -> tuple[list[tuple[Any, ...]], Position | None]:
        """Return the rows of a page, and where it ends when there is more."""
        sql, args = search_sql(search, self._parse)
        async with self._database.reading(caller) as connection:
            rows = await connection.fetch(sql, *args)
        page = rows[: search.limit]
        last = page[-1] if len(rows) > search.limit else None
        end = None if last is None else Position(last["sort_value"], last["sort_id"])
        return [tuple(row.values())[:-2] for row in page], end

    async def get(
        self, caller: Caller, of: ObjectDef, fields: Sequence[FieldDef], ids: Sequence[UUID]
    ) -> dict[str, tuple[Any, ...]]:
        """Return the records that are there, by id."""
        sql = f"SELECT id AS found_id, {columns(fields)} FROM crm.{of.table} WHERE id = ANY($1::text[]::uuid[])"  # noqa: S608 - names of the registry
        async with self._database.reading(caller) as connection:
            rows = await connection.fetch(sql, [str(id_) for id_ in ids])
        return {row["found_id"]: tuple(row.values())[1:] for row in rows}

    async def stages(self, caller: Caller) -> list[dict[str, Any]]:
        """Return the stages of every pipeline, in order."""
        async with self._database.reading(caller) as connection:
            rows = await connection.fetch(
                "SELECT pipeline, key, name, kind, probability FROM crm.stages "
                "ORDER BY pipeline, position"
            )
        return [dict(row) for row in rows]

    @asynccontextmanager
    async def changing(
        self, caller: Caller, *, change_set: UUID, keep: bool
    ) -> AsyncGenerator[CrmTransaction]:
        """Yield a transaction; what it did stays only when `keep` is true and nothing was raised."""
        settings = {"app.change_set": str(change_set)}
        async with self._database.writing(caller, settings=settings, keep=keep) as connection:
            yield CrmTransaction(connection, caller)


class CrmTransaction:
    """Changes of one caller that happen together or not at all."""

    def __init__(self, connection: Connection, caller: Caller) -> None:
        self.records = PostgresRecords(connection, table="store.idempotency")
        self._connection = connection
        self._caller = caller

    async def load(
        self, of: ObjectDef, field: FieldDef, values: Sequence[str]
    ) -> Mapping[str, Stored]:
        """Return the live records whose `field` is among `values`, by that value, and lock them.

        Locked in the order of their ids, so that two calls cannot wait for each other.
        """
        rows = await self._connection.fetch(
            f"SELECT id, version, {columns(of.writable)} FROM store.{of.table} "  # noqa: S608 - names of the registry
            f"WHERE deleted_at IS NULL AND {field.name} = ANY($1::text[]::{sql_type(field)}[]) "
            "ORDER BY id FOR UPDATE",
            list(values),
        )
        return {
            str(row[field.name]): Stored(
                UUID(row["id"]), row["version"], {f.name: row[f.name] for f in of.writable}
            )
            for row in rows
        }

    async def insert(self, of: ObjectDef, writes: Sequence[Write]) -> Mapping[UUID, int]:
        """Insert records and return their versions by id."""
        names = columns(of.writable)
        rows = await self._connection.fetch(
            f"INSERT INTO store.{of.table} (tenant, created_by, updated_by, id, {names}) "  # noqa: S608 - names of the registry
            f"SELECT $1, $2, $2, id, {names} "
            f"FROM jsonb_to_recordset($3) AS r ({recordset(of.writable)}) RETURNING id, version",
            self._caller.tenant,
            self._caller.subject,
            _payload(writes),
        )
        return _versions(rows)

    async def update(self, of: ObjectDef, writes: Sequence[Write]) -> Mapping[UUID, int]:
        """Update records and return their new versions by id."""
        changes = ", ".join(f"{field.name} = r.{field.name}" for field in of.writable)
        rows = await self._connection.fetch(
            f"UPDATE store.{of.table} AS t SET updated_by = $1, {changes} "  # noqa: S608 - names of the registry
            f"FROM jsonb_to_recordset($2) AS r ({recordset(of.writable)}) "
            "WHERE t.id = r.id RETURNING t.id, t.version",
            self._caller.subject,
            _payload(writes),
        )
        return _versions(rows)

    async def delete(self, of: ObjectDef, id_: UUID) -> int:
        """Delete a record that `load` returned, and return its last version."""
        version: int = await self._connection.fetchval(
            f"UPDATE store.{of.table} SET deleted_at = now(), updated_by = $1 "  # noqa: S608 - names of the registry
            "WHERE id = $2::text::uuid RETURNING version",
            self._caller.subject,
            str(id_),
        )
        return version

    @asynccontextmanager
    async def attempt(self) -> AsyncGenerator[None]:
        """Undo what the block did when it raises, and only that; the transaction stays usable."""
        await self._connection.execute("SAVEPOINT attempt")
        try:
            with translated():
                yield
        except FleetError:
            await self._connection.execute("ROLLBACK TO SAVEPOINT attempt")
            raise
        await self._connection.execute("RELEASE SAVEPOINT attempt")


def _payload(writes: Sequence[Write]) -> list[dict[str, Any]]:
    return [{"id": str(write.id), **write.values} for write in writes]


def _versions(rows: Sequence[asyncpg.Record]) -> dict[UUID, int]:
    return {UUID(row["id"]): row["version"] for row in rows}
