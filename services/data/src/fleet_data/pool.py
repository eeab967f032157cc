"""Two pools and one envelope: every statement runs as somebody, for a limited time, and leaves nothing behind.

`Database.reading` is three round trips: BEGIN READ ONLY with the claim and the limits, the statement, ROLLBACK.
Everything is SET LOCAL, so nothing else needs resetting; asyncpg's own reset query would cost a fourth round
trip. A cancelled task cancels its statement on the server (asyncpg does that) and still rolls back.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, cast

import asyncpg

from fleet_common.deadline import remaining
from fleet_common.errors import Unavailable
from fleet_common.metrics import Metrics
from fleet_data.claims import Caller, ClaimSigner
from fleet_data.errors import translated
from fleet_data.numbers import json_number
from fleet_data.statements import recorded

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
    Pool = asyncpg.Pool[asyncpg.Record]
else:  # generic for the type checker only
    Connection, Pool = asyncpg.Connection, asyncpg.Pool

_SESSION = {"TimeZone": "UTC", "DateStyle": "ISO, YMD", "application_name": "fleet-data"}
_AS_TEXT = ("date", "time", "timetz", "interval", "uuid", "inet", "cidr", "money", "xid8", "pg_lsn")
_GRACE_S = 1.0
_ROLLBACK_S = 2.0  # a server that does not even roll back loses the connection
# The role leaves with the transaction, and nothing inside the wrap of `query.repository` changes it before.
_MASKED = "; SET LOCAL ROLE crm_masked; SET LOCAL search_path = masked, ext"
_TRANSACTION_TIMEOUT = 17  # PostgreSQL has transaction_timeout from here on


class PlainConnection(Connection):
    """A connection that does not use `set_config`, which the reader may not execute.

    asyncpg calls it to turn JIT off while it looks up an unknown type (a row type, an enum).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Private, and the only way; the attribute is unknown to the stubs.
        known: Any = self._server_caps  # type: ignore[has-type]
        self._server_caps = known._replace(jit=False)


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a caller's statement may run, and a connection be waited for, in seconds."""

    statement_s: float
    wait_s: float


class Envelope:
    """How a statement runs, whatever the database: on a connection of a pool, in a transaction, within limits."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    @asynccontextmanager
    async def _transaction(
        self, pool: Pool, begin: Callable[[Connection], str], *, end: str = "ROLLBACK"
    ) -> AsyncGenerator[Connection]:
        """Yield a connection in a transaction; `end` leaves it unless the block has left it."""
        async with self._acquired(pool) as connection:
            try:
                await connection.execute(begin(connection))
                yield connection
            finally:
                if connection.is_in_transaction() and not connection.is_closed():
                    await _end(connection, end)

    @asynccontextmanager
    async def _acquired(self, pool: Pool) -> AsyncGenerator[Connection]:
        with translated():
            try:
                connection = await pool.acquire(timeout=remaining(self._limits.wait_s))
            except (TimeoutError, asyncpg.PostgresError) as exc:
                # No connection, whatever the reason (full, starting, wrong password): not the caller's.
                raise Unavailable("database") from exc
            try:
                with recorded(connection):
                    yield cast(Connection, connection)
            finally:
                await pool.release(connection)

    def patience_s(self) -> float:
        """Return how long to wait for a statement that the server should have ended by then."""
        return remaining(self._limits.statement_s) + _GRACE_S

    def _limits_of(self, connection: Connection) -> str:
        """Return the settings that end a transaction in time."""
        limit_ms = max(1, int(1000 * remaining(self._limits.statement_s)))
        limits = f"SET LOCAL statement_timeout = {limit_ms}"
        if connection.get_server_version().major >= _TRANSACTION_TIMEOUT:
            limits += f"; SET LOCAL transaction_timeout = {limit_ms + 1000}"
        return limits


class Database(Envelope):
    """The database as the service uses it: a pool that can only read, and one that writes records."""

    def __init__(self, reader: Pool, writer: Pool, *, signer: ClaimSigner, limits: Limits) -> None:
        super().__init__(limits)
        self._reader = reader
        self._writer = writer
        self._signer = signer

    @asynccontextmanager
    async def reading(self, caller: Caller) -> AsyncGenerator[Connection]:
        """Yield a read-only transaction that sees the rows of the caller's tenant; it is always rolled back."""
        begin = partial(self._begin, caller, "READ ONLY")
        async with self._transaction(self._reader, begin) as connection:
            yield connection

    @asynccontextmanager
    async def querying(self, caller: Caller) -> AsyncGenerator[Connection]:
        """Yield a transaction as `reading` does, for SQL of the caller's own: what is masked is NULL in it."""
        more = _MASKED if caller.masks else ""
        begin = partial(self._begin, caller, "READ ONLY", more=more)
        async with self._transaction(self._reader, begin) as connection:
            yield connection

    @asynccontextmanager
    async def writing(
        self, caller: Caller, *, settings: Mapping[str, str] | None = None, keep: bool = True
    ) -> AsyncGenerator[Connection]:
        """Yield a transaction that may change the caller's tenant; it commits unless the block raises.

        Args:
            caller: on whose behalf.
            settings: further settings of the transaction; values must be safe in SQL.
            keep: False rolls back at the end, for dry runs.
        """
        more = "".join(f"; SET LOCAL {k} = '{v}'" for k, v in (settings or {}).items())
        begin = partial(self._begin, caller, "READ WRITE", more=more)
        async with self._transaction(self._writer, begin) as connection:
            yield connection
            if keep:
                await connection.execute("COMMIT")

    async def ask(self, query: str) -> list[asyncpg.Record]:
        """Return the rows of one statement as the reader, without a claim."""
        return await self.bare(query, role="reader")

    async def bare(self, query: str, *, role: Literal["reader", "writer"]) -> list[asyncpg.Record]:
        """Return the rows of one statement without a claim, as the readiness checks need it."""
        pool = self._reader if role == "reader" else self._writer
        async with self._acquired(pool) as connection:
            return await connection.fetch(query)

    def _begin(self, caller: Caller, mode: str, connection: Connection, *, more: str = "") -> str:
        """Return the first round trip: transaction, claim, limits. No value in it comes from the caller's text."""
        claim = self._signer.sign(caller, backend_pid=connection.get_server_pid())
        return (
            f"BEGIN {mode}; SET LOCAL app.claims = '{claim}'; {self._limits_of(connection)}{more}"
        )


async def _end(connection: Connection, end: str) -> None:
    """Leave the transaction, or the connection when its server does not even do that."""
    try:
        await connection.execute(end, timeout=_ROLLBACK_S)
    except TimeoutError:
        # Some functions of PostgreSQL run for minutes without looking whether they were cancelled.
        connection.terminate()


def open_pool(url: str, *, size: int) -> Pool:
    """Return a pool that connects when it is first used, so that a database that is away does not stop the start."""
    return asyncpg.create_pool(
        url,
        min_size=0,
        max_size=size,
        init=_init,
        reset=_nothing,
        connection_class=PlainConnection,
        server_settings=_SESSION,
        timeout=5,
    )


def export_pool(pool: Pool, role: str, metrics: Metrics) -> None:
    """Add `data_pool_in_use{role}` and `data_pool_size{role}`."""
    metrics.gauge_at_scrape(
        "data_pool_in_use",
        "Database connections that work for somebody.",
        lambda: pool.get_size() - pool.get_idle_size(),
        {"role": role},
    )
    metrics.gauge_at_scrape(
        "data_pool_size", "Database connections at most.", pool.get_max_size, {"role": role}
    )


async def _nothing(_connection: Any) -> None:
    """Reset nothing: no transaction leaves anything behind."""


async def _init(connection: Any) -> None:
    """Make values arrive as JSON has them: dates, ids and the like as text, numerics as numbers."""
    text = {"format": "text", "schema": "pg_catalog", "encoder": str}
    for name in _AS_TEXT:
        await connection.set_type_codec(name, decoder=str, **text)
    for name in ("timestamp", "timestamptz"):
        await connection.set_type_codec(name, decoder=_moment, **text)
    await connection.set_type_codec("numeric", decoder=json_number, **text)
    for name in ("json", "jsonb"):
        await connection.set_type_codec(
            name, schema="pg_catalog", format="text", encoder=json.dumps, decoder=json.loads
        )


def _moment(text: str) -> str:
    """Return PostgreSQL's `2026-11-21 04:02:07+00` as ISO 8601 writes it."""
    moment = text.replace(" ", "T", 1)
    return f"{moment[:-3]}Z" if moment.endswith("+00") else moment
