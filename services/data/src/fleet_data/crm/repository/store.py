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
from fleet_data.crm.changing import ChangeSet
from fleet_data.crm.models import (
    CUSTOM,
    FieldDef,
    Named,
    ObjectDef,
    Position,
    Scalar,
    Search,
    Segment,
    Stored,
    Write,
)
from fleet_data.crm.properties import Definition
from fleet_data.crm.repository.merge import Merge
from fleet_data.crm.repository.sql import ParseValue, columns, search_sql, sql_type
from fleet_data.errors import translated
from fleet_data.pool import Connection, Database

_NAMES: dict[Named, str] = {
    "pipeline": "key FROM crm.pipelines",
    "segment": "name FROM crm.segments",
    "campaign": "name FROM crm.campaigns",
}
_PROPERTIES = "SELECT name, kind, about, choices"


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

    async def properties(self, caller: Caller, name: str) -> list[Definition]:
        """Return the custom properties of an object."""
        async with self._database.reading(caller) as connection:
            rows = await connection.fetch(
                f"{_PROPERTIES} FROM crm.properties WHERE object = $1", name
            )
        return [Definition(**row) for row in rows]

    async def names(self, caller: Caller, kind: Named, prefix: str) -> list[str]:
        """Return the keys of pipelines, or names of segments or campaigns, that begin so, at most 100."""
        async with self._database.reading(caller) as connection:
            rows = await connection.fetch(
                f"SELECT {_NAMES[kind]} WHERE starts_with(lower(name), lower($1)) ORDER BY 1 LIMIT 100",
                prefix,
            )
        return [row[0] for row in rows]

    async def segment(self, caller: Caller, id_: UUID) -> Segment | None:
        """Return a segment, or None when there is none."""
        async with self._database.reading(caller) as connection:
            row = await connection.fetchrow(
                "SELECT id, name, object, filter FROM crm.segments WHERE id = $1", str(id_)
            )
        return None if row is None else Segment(**row)

    @asynccontextmanager
    async def changing(
        self, caller: Caller, *, change_set: ChangeSet, keep: bool
    ) -> AsyncGenerator[CrmTransaction]:
        """Yield a transaction; what it did stays only when `keep` is true and nothing was raised."""
        settings = change_set.settings
        async with self._database.writing(caller, settings=settings, keep=keep) as connection:
            yield CrmTransaction(connection, caller)


class CrmTransaction:
    """Changes of one caller that happen together or not at all; `touched` are the objects it changed."""

    def __init__(self, connection: Connection, caller: Caller) -> None:
        self.records = PostgresRecords(connection, table="store.idempotency")
        self.touched: set[str] = set()
        self._connection = connection
        self._caller = caller

    async def properties(self, name: str) -> list[Definition]:
        """Return the custom properties of an object."""
        rows = await self._connection.fetch(
            f"{_PROPERTIES} FROM store.properties WHERE deleted_at IS NULL AND object = $1", name
        )
        return [Definition(**row) for row in rows]

    async def load(
        self, of: ObjectDef, field: FieldDef, values: Sequence[str]
    ) -> Mapping[str, Stored]:
        """Return the live records whose `field` is among `values`, by that value, and lock them.

        Locked in the order of their ids, so that two calls cannot wait for each other.
        """
        names = columns([f for f in of.writable if not f.custom])
        rows = await self._connection.fetch(
            f"SELECT id, version, {names}{', props' if of.is_extensible else ''} FROM store.{of.table} "  # noqa: S608 - names of the registry
            f"WHERE deleted_at IS NULL AND {field.name} = ANY($1::text[]::{sql_type(field)}[]) "
            "ORDER BY id FOR UPDATE",
            list(values),
        )
        return {
            str(row[field.name]): Stored(UUID(row["id"]), row["version"], _values(of, row))
            for row in rows
        }

    async def write(self, of: ObjectDef, writes: Sequence[Write]) -> Mapping[UUID, int]:
        """Insert and update records and return their new versions by id."""
        self.touched.add(of.name)
        merge = Merge(of, of.writable)
        rows = await self._connection.fetch(
            merge.sql(merge.json_source("$3")),
            self._caller.tenant,
            self._caller.subject,
            [{"row": w.index, "id": str(w.id), **folded(w.values)} for w in writes],
        )
        return {UUID(row["id"]): row["version"] for row in rows}

    async def delete(self, of: ObjectDef, ids: Sequence[UUID]) -> Mapping[UUID, int]:
        """Delete records that `load` returned, and return their last versions by id."""
        self.touched.add(of.name)
        rows = await self._connection.fetch(
            f"UPDATE store.{of.table} SET deleted_at = now(), updated_by = $1 "  # noqa: S608 - names of the registry
            "WHERE id = ANY($2::text[]::uuid[]) RETURNING id, version",
            self._caller.subject,
            [str(id_) for id_ in ids],
        )
        return {UUID(row["id"]): row["version"] for row in rows}

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


def folded(values: Mapping[str, Scalar]) -> dict[str, Any]:
    """Return a record's values as its table has them: custom properties together in `props`."""
    own = {name: value for name, value in values.items() if not name.startswith(CUSTOM)}
    return {**own, "props": {name: values[name] for name in values if name not in own}}


def _values(of: ObjectDef, row: asyncpg.Record) -> dict[str, Scalar]:
    """Return what a row holds for the fields that may be written, and every custom property it has."""
    own = {f.name: row[f.name] for f in of.writable if not f.custom}
    return {**own, **row["props"]} if of.is_extensible else own
