"""The envelope round a caller's SQL: no parser, only the database's own walls.

The role has no right but SELECT on the views of schema crm (migrations 0004, `schema.repository`). The
transaction is READ ONLY with a signed claim and is always rolled back (`pool`). The extended protocol takes one
statement. Inside `SELECT * FROM (…)` only a query is grammatical: no SET, DO, COPY, LOCK, EXPLAIN, SELECT INTO,
and no data-modifying CTE, which must stand at the top level. The line breaks keep a `--` comment from swallowing
the end, and LIMIT stands behind whatever the caller wrote.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import asyncpg
from asyncpg.prepared_stmt import PreparedStatement

from fleet_data.claims import Caller
from fleet_data.errors import QueryRejected
from fleet_data.pool import Connection, Database
from fleet_data.query.models import Param, Query


class QueryRepository:
    """Runs callers' SQL as the reader."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(
        self, caller: Caller, query: Query
    ) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
        """Return the names of the columns and up to `max_rows` + 1 rows."""
        async with self._database.reading(caller) as connection:
            statement = await connection.prepare(wrapped(query))
            # An empty result still has columns, and only the statement knows them.
            columns = [attribute.name for attribute in statement.get_attributes()]
            rows = await _fetched(connection, statement, query.params)
        return columns, [list(row.values()) for row in rows]


def wrapped(query: Query) -> str:
    """Return the statement that is sent.

    `q.*` is the whole row whatever its columns are called. Its size is asked before it is sent, because
    one cell can have a gigabyte.
    """
    return (
        f"SELECT * FROM (\n{query.sql}\n) q "  # noqa: S608 - raw SQL is the purpose; see the module
        f"WHERE CASE WHEN pg_column_size(q.*) > {query.row_bytes} THEN crm.row_too_large() ELSE true END "
        f"LIMIT {query.max_rows + 1}"
    )


async def _fetched(
    connection: Connection,
    statement: PreparedStatement[asyncpg.Record],
    params: Sequence[Param],
) -> list[asyncpg.Record]:
    try:
        return await statement.fetch(*params)
    except asyncpg.InterfaceError as exc:
        if connection.is_closed():
            raise
        # On a live connection the driver complains about the parameters: too few, too many.
        raise QueryRejected(str(exc), sqlstate="08P01") from exc
