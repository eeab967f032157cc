"""The envelope round a caller's SQL: no parser, only the database's own walls.

The role has no right but SELECT on what it may see (migrations 0004, `schema.repository`). The transaction is READ
ONLY, carries a signed claim where there are tenants, and is always rolled back (`pool`). The extended protocol takes
one statement. Inside `SELECT * FROM (…)` only a query is grammatical: no SET, DO, COPY, LOCK, EXPLAIN, SELECT INTO,
and no data-modifying CTE, which must stand at the top level. The caller's text is prepared alone first: only a
whole statement passes, and its parentheses, quotes and comments are closed, so none of it ends up outside the
wrap. The line breaks keep a `--` comment from swallowing the end. Only where the database cannot forbid a function
does `guard` look at the text.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any, Protocol

import asyncpg

from fleet_common.errors import PayloadTooLarge, PermissionDenied
from fleet_data.claims import Caller
from fleet_data.errors import QueryRejected
from fleet_data.pool import Connection
from fleet_data.query.catalog import relations_sql
from fleet_data.query.guard import refuse_named
from fleet_data.query.models import Detail, Param, Query
from fleet_data.schema.privileges import PrivilegeWatch
from fleet_data.statements import recorded_one

_TOO_LARGE = "a row is too large to return"
_MASKED = (
    "Fields are masked for your roles: read masked.contacts, or contacts alone, not crm.contacts"
)


class Readable(Protocol):
    """A database whose statements run as a role that only reads."""

    def reading(self, caller: Caller) -> AbstractAsyncContextManager[Connection]:
        """Yield a read-only transaction; it is always rolled back."""

    def querying(self, caller: Caller) -> AbstractAsyncContextManager[Connection]:
        """Yield the same for the caller's own SQL, in which masked fields are NULL."""

    def patience_s(self) -> float:
        """Return how long to wait for a statement that the server should have ended by then."""

    async def ask(self, query: str) -> list[asyncpg.Record]:
        """Return the rows of one statement of ours."""


class QueryRepository:
    """Runs callers' SQL as the reader of one database."""

    def __init__(self, database: Readable, watch: PrivilegeWatch | None = None) -> None:
        self._database = database
        self._watch = watch or PrivilegeWatch(database)

    async def run(
        self, caller: Caller, query: Query
    ) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
        """Return the names of the columns and up to `max_rows` + 1 rows, as JSON has values."""
        await self.refuse_unguarded(query.sql)
        async with querying(self._database, caller) as connection:
            with complaints(connection):
                columns = await _columns(connection, query.sql)
                rows = await self._fetch(connection, wrapped(query, unpacked=True), query.params)
        return columns, [_plain_row(row) for row in rows]

    async def explain(self, caller: Caller, sql: str, params: Sequence[Param]) -> dict[str, Any]:
        """Return PostgreSQL's plan for a statement as JSON has it; nothing is run."""
        await self.refuse_unguarded(sql)
        async with querying(self._database, caller) as connection:
            with complaints(connection):
                await _columns(connection, sql)
                rows = await self._fetch(connection, explained(sql), params)
        plan: dict[str, Any] = rows[0][0][0]["Plan"]
        return plan

    async def relations(
        self, caller: Caller, pattern: str, detail: Detail, limit: int
    ) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
        """Return the columns and up to `limit` rows about what the role may read; `pattern` is of LIKE."""
        async with self._database.querying(caller) as connection:
            rows = await connection.fetch(relations_sql(detail), pattern, limit)
        names = list(rows[0].keys()) if rows else []
        return names, [_plain_row(row) for row in rows]

    async def refuse_unguarded(self, sql: str) -> None:
        """Refuse what the database does not forbid by itself, before it sees the text.

        Raises:
            PermissionDenied: the text names something that callers must not use.
        """
        refuse_named(sql, (await self._watch.current()).names)

    async def _fetch(
        self, connection: Connection, sql: str, params: Sequence[Param]
    ) -> list[asyncpg.Record]:
        """Return the rows of a statement that gets no name.

        With one, the next caller on this connection would read it in pg_prepared_statements.
        """
        with recorded_one(sql):
            statement = await connection.prepare(sql, name="")
            return await statement.fetch(*params, timeout=self._database.patience_s())


@asynccontextmanager
async def querying(database: Readable, caller: Caller) -> AsyncGenerator[Connection]:
    """Yield a transaction for the caller's SQL; where it may not read a view, say which it may."""
    try:
        async with database.querying(caller) as connection:
            yield connection
    except PermissionDenied as exc:
        if not caller.masks:
            raise
        raise PermissionDenied(exc.message, hint=_MASKED) from exc


def wrapped(query: Query, *, unpacked: bool = False) -> str:
    """Return the statement that runs, for a query whose text is known to be whole.

    `q.*` is the whole row whatever its columns are called. Its size is asked before it is sent, because one cell can
    have a gigabyte. The cast of words to a number is the shortest way to fail in any database.

    Args:
        query: what the caller wants.
        unpacked: count stored values that are compressed as text, too; for who keeps all rows in memory.
    """
    limit, size = query.row_bytes, "pg_column_size(q.*)"
    too_large = f"{size} > {limit}"
    if unpacked:
        too_large += f" OR octet_length((q.*)::text) > {2 * limit}"
    return (
        f"SELECT * FROM (\n{query.sql}\n) q "  # noqa: S608 - raw SQL is the purpose; see the module
        f"WHERE CASE WHEN {too_large} THEN left('{_TOO_LARGE}', {size})::int IS NULL ELSE true END "
        f"LIMIT {query.max_rows + 1}"
    )


def explained(sql: str) -> str:
    """Return the statement that explains, for a text that is known to be whole. Without ANALYZE nothing runs."""
    return f"EXPLAIN (FORMAT JSON) SELECT * FROM (\n{sql}\n) q"  # noqa: S608


async def _columns(connection: Connection, sql: str) -> list[str]:
    """Return the names of the columns of the caller's text, which must be one whole statement by itself.

    PostgreSQL parses it and runs nothing. Without a name the statement needs no closing.
    """
    statement = await connection.prepare(sql, name="")
    return [attribute.name for attribute in statement.get_attributes()]


@contextmanager
def complaints(connection: Connection) -> Generator[None]:
    """Turn what the driver says about the caller's query, and not about the connection, into a rejection."""
    try:
        yield
    except asyncpg.InvalidTextRepresentationError as exc:
        if f'"{_TOO_LARGE}"' not in exc.message:
            raise
        raise PayloadTooLarge(_TOO_LARGE, hint="Cut long values with left(…)") from exc
    except asyncpg.UnsupportedClientFeatureError as exc:
        hint = "Cast the column to text"
        raise QueryRejected(str(exc.args[0]), sqlstate="0A000", hint=hint) from exc
    except asyncpg.InternalClientError as exc:  # a pseudo-type, such as trigger
        if connection.is_closed():
            raise
        raise QueryRejected("a column has a type without values", sqlstate="0A000") from exc
    except asyncpg.InterfaceError as exc:
        if connection.is_closed():
            raise
        raise QueryRejected(
            str(exc.args[0]), sqlstate="08P01"
        ) from exc  # too few or many parameters


_AS_IT_IS = frozenset({str, int, bool, type(None)})


def _plain_row(row: asyncpg.Record) -> list[Any]:
    # Nearly every value is plain already: asking its type here halves the time of a large answer.
    return [value if type(value) in _AS_IT_IS else _plain(value) for value in row.values()]


def _plain(value: Any) -> Any:
    """Return a value of the driver as JSON can have it; what it has no form for becomes text."""
    if type(value) in _AS_IT_IS:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, dict | asyncpg.Record):  # a JSON object, or a row inside a row
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, asyncpg.Range):
        return _range(value)
    return f"\\x{value.hex()}" if isinstance(value, bytes) else str(value)


def _range(value: asyncpg.Range[Any]) -> str:
    """Return a range as PostgreSQL writes it, such as `[1,5)`."""
    if value.isempty:
        return "empty"
    lower, upper = ("" if bound is None else bound for bound in (value.lower, value.upper))
    return f"{'[' if value.lower_inc else '('}{lower},{upper}{']' if value.upper_inc else ')'}"
