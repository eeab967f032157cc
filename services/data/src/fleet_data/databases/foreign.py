"""A database that is not ours: no claim, no tenants; a role that reads, and what a session can be told."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import asyncpg

from fleet_data.claims import Caller
from fleet_data.pool import Connection, Envelope, Limits, Pool

_SETTINGS = (
    "SET LOCAL lock_timeout = '2s'; SET LOCAL work_mem = '16MB'; "
    "SET LOCAL idle_in_transaction_session_timeout = '60s'"
)
# Nothing here keeps a caller from taking locks of the session or changing its settings: nobody inherits them.
_END = "ROLLBACK; SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL"


class ForeignDatabase(Envelope):
    """Runs statements on another PostgreSQL."""

    def __init__(self, pool: Pool, limits: Limits) -> None:
        super().__init__(limits)
        self._pool = pool

    @asynccontextmanager
    async def reading(self, _caller: Caller) -> AsyncGenerator[Connection]:
        """Yield a read-only transaction; it is always rolled back, and the session is as new afterwards."""
        async with self._transaction(self._pool, self._begin, end=_END) as connection:
            yield connection

    def querying(self, caller: Caller) -> AbstractAsyncContextManager[Connection]:
        """Yield the same: there are no masks here."""
        return self.reading(caller)

    async def ask(self, query: str) -> list[asyncpg.Record]:
        """Return the rows of one statement of ours."""
        async with self._acquired(self._pool) as connection:
            return await connection.fetch(query)

    def _begin(self, connection: Connection) -> str:
        return f"BEGIN READ ONLY; {self._limits_of(connection)}; {_SETTINGS}"
