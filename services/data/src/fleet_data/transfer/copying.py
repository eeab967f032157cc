"""COPY of a caller's statement, inside the envelope of `query.repository`.

COPY speaks the simple protocol, which takes many statements, so nothing may be copied that is not proven to be one:
first PostgreSQL prepares the caller's text alone, then the wrapped text, both over the extended protocol. Then
exactly that wrapped text is copied, as the reader, in the same READ ONLY transaction, which is rolled back.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from fleet_common.errors import InvalidInput
from fleet_data.claims import Caller
from fleet_data.pool import Connection, Database
from fleet_data.query.guard import refuse_named
from fleet_data.query.repository import complaints, querying
from fleet_data.schema.privileges import PrivilegeWatch
from fleet_data.statements import recorded_one
from fleet_data.transfer.errors import TransferTooLarge
from fleet_data.transfer.models import Format
from fleet_data.transfer.sources import ROW_BYTES, Column, Source, unique

_SMALL = frozenset({
    *("bool", "int2", "int4", "int8", "float4", "float8", "uuid", "date", "timestamp", "timestamptz", "time"),
})  # fmt: skip
_LENGTH_FIRST = frozenset({"text", "varchar", "bytea"})
_SIMPLE = _SMALL | {"numeric", "money2", "text", "varchar", "bpchar", "jsonb"}
# Neither occurs in JSON as PostgreSQL writes it, so nothing is quoted and no backslash is doubled.
_UNQUOTED = {"quote": "\x01", "delimiter": "\x02"}

Sink = Callable[[bytes], Coroutine[Any, Any, None]]


class Copier:
    """Copies rows as the reader; its database gives a statement as long as an export may take."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._watch = PrivilegeWatch(database)

    async def columns(self, caller: Caller, source: Source) -> list[Column]:
        """Return the columns that a copy would have; PostgreSQL parses the statement and runs nothing.

        Raises:
            QueryRejected: PostgreSQL refused it.
            PermissionDenied: the reader has no right to what it names.
        """
        await self._refuse(source)
        async with self._as(caller, source) as connection:
            with complaints(connection):
                return await _proven(connection, source)

    async def copy(self, caller: Caller, source: Source, format_: Format, sink: Sink) -> int:
        """Send all rows to `sink` and return how many there are.

        Raises:
            TransferTooLarge: there are more than the source may have.
            QueryRejected: PostgreSQL refused it.
        """
        await self._refuse(source)
        async with self._as(caller, source) as connection:
            with complaints(connection):
                columns = await _proven(connection, source)
                text, options = _copied(wrapped(source, columns), format_, columns)
                with recorded_one("COPY"):
                    status = await connection.copy_from_query(
                        text,
                        *source.query.params,
                        output=sink,
                        format="csv",
                        timeout=self._database.patience_s(),
                        **options,
                    )
        rows = int(status.removeprefix("COPY "))
        if rows > source.query.max_rows:
            raise TransferTooLarge(
                f"more than {source.query.max_rows} rows", hint="Filter, or aggregate in SQL"
            )
        return rows

    def _as(self, caller: Caller, source: Source) -> AbstractAsyncContextManager[Connection]:
        """Return the transaction for a source: ours names what is masked itself, and reads the plain views."""
        if source.is_the_callers:
            return querying(self._database, caller)
        return self._database.reading(caller)

    async def _refuse(self, source: Source) -> None:
        """Refuse text that names what the database does not forbid by itself."""
        refuse_named(source.query.sql, (await self._watch.current()).names)


async def _proven(connection: Connection, source: Source) -> list[Column]:
    """Return the columns of a statement that is known to be one, alone and wrapped."""
    alone = await connection.prepare(source.query.sql, name="")
    if len(alone.get_parameters()) != len(source.query.params):
        raise InvalidInput("the sql of an export takes no parameters: write the values into it")
    columns = [
        Column(a.name, "money2" if a.name in source.two_decimals else a.type.name)
        for a in alone.get_attributes()
    ]
    await connection.prepare(wrapped(source, columns), name="")
    return columns


def wrapped(source: Source, columns: Sequence[Column]) -> str:
    """Return the statement whose rows are copied, for a text that is known to be whole.

    The columns are called c0, c1, … inside, so that two may have one name, and none of the caller's names is ours.
    A row that is too large ends the statement before it is sent, because one cell can have a gigabyte.
    """
    inside = [f"q.c{number}" for number in range(len(columns))]
    shown = ", ".join(
        f"{c} AS {_quoted(column.name)}" for c, column in zip(inside, columns, strict=True)
    )
    sizes = [size for c, column in zip(inside, columns, strict=True) if (size := _size(c, column))]
    return (
        f"SELECT {shown} FROM (\n{source.query.sql}\n) q ({', '.join(c[2:] for c in inside)}) "  # noqa: S608 - raw SQL is the purpose; see the module
        f"WHERE CASE WHEN {' + '.join(sizes) or '0'} > {ROW_BYTES} THEN crm.row_too_large() ELSE true END "
        f"LIMIT {source.query.max_rows + 1}"
    )


def _size(value: str, column: Column) -> str | None:
    """Return the expression for the size of a value as text; None where it is a few bytes.

    The length of a text or bytea stands before it, so asking costs nothing even when it is compressed.
    """
    if column.kind in _SMALL:
        return None
    measure = value if column.kind in _LENGTH_FIRST else f"({value})::text"
    return f"coalesce(octet_length({measure}), 0)"


def _quoted(name: str) -> str:
    return '"{}"'.format(name.replace('"', '""'))


def _copied(sql: str, format_: Format, columns: list[Column]) -> tuple[str, dict[str, Any]]:
    """Return the text to copy, whose parts are known to be whole, and the driver's options for COPY."""
    if format_ == "csv":
        return sql, {"header": True}
    unique(columns)
    if format_ == "parquet":
        return sql, {}
    line = "to_json(r)::text"
    if any(column.kind not in _SIMPLE for column in columns):
        # A value of type json is copied as it was written, line breaks included; between tokens a space is as good.
        line = f"translate({line}, E'\\n\\r', '  ')"
    return f"SELECT {line} FROM (\n{sql}\n) r", {**_UNQUOTED}  # noqa: S608 - as above
