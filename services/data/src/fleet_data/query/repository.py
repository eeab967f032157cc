"""The envelope round a caller's SQL: no parser, only the database's own walls.

The role has no right but SELECT on the views of schema crm (migrations 0004, `schema.repository`). The
transaction is READ ONLY with a signed claim and is always rolled back (`pool`). The extended protocol takes one
statement. Inside `SELECT * FROM (…)` only a query is grammatical: no SET, DO, COPY, LOCK, EXPLAIN, SELECT INTO,
and no data-modifying CTE, which must stand at the top level. The caller's text is prepared alone first: only a
whole statement passes, and its parentheses, quotes and comments are closed, so none of it ends up outside the
wrap. The line breaks keep a `--` comment from swallowing the end.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import asyncpg

from fleet_data.claims import Caller
from fleet_data.errors import QueryRejected
from fleet_data.pool import Connection, Database
from fleet_data.query.models import Query
from fleet_data.statements import recorded_one


class QueryRepository:
    """Runs callers' SQL as the reader."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(
        self, caller: Caller, query: Query
    ) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
        """Return the names of the columns and up to `max_rows` + 1 rows, as JSON has values."""
        async with self._database.reading(caller) as connection:
            with complaints(connection):
                columns = await _columns(connection, query.sql)
                # Without a name, or the next caller on this connection would read it in pg_prepared_statements.
                with recorded_one(wrapped(query)):
                    statement = await connection.prepare(wrapped(query), name="")
                    rows = await statement.fetch(*query.params)
        return columns, [_plain_row(row) for row in rows]


def wrapped(query: Query) -> str:
    """Return the statement that runs, for a query whose text is known to be whole.

    `q.*` is the whole row whatever its columns are called. Its size is asked before it is sent, because
    one cell can have a gigabyte.
    """
    return (
        f"SELECT * FROM (\n{query.sql}\n) q "  # noqa: S608 - raw SQL is the purpose; see the module
        f"WHERE CASE WHEN pg_column_size(q.*) > {query.row_bytes} THEN crm.row_too_large() ELSE true END "
        f"LIMIT {query.max_rows + 1}"
    )


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
    except asyncpg.UnsupportedClientFeatureError as exc:
        hint = "Cast the column to text"
        raise QueryRejected(str(exc.args[0]), sqlstate="0A000", hint=hint) from exc
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
