"""What stands written before a message leaves, so that the same key never posts twice."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any
from uuid import uuid4

from fleet_common.idempotency import KeyedCall
from fleet_common.postgres import PostgresRecords
from fleet_data.claims import Caller
from fleet_data.pool import Connection, Database

_TABLE = "store.idempotency"
UNKNOWN: dict[str, Any] = {"state": "unknown"}
_OPEN: dict[str, Any] = {"state": "open"}


class PostRepository:
    """Messages by their idempotency keys."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def answered(self, caller: Caller, call: KeyedCall) -> dict[str, Any] | None:
        """Return what became of a message with this key; None when it may be posted.

        Raises:
            KeyReused: the key was used for another message.
        """
        async with self._database.writing(caller, keep=False) as connection:
            before: dict[str, Any] | None = await _records(connection).answered(call)
        return None if before == _OPEN else before

    async def begin(self, caller: Caller, call: KeyedCall) -> dict[str, Any] | None:
        """Take the key for one attempt and return None, or return what became of an earlier one.

        From here on the message counts as perhaps posted, whatever happens to this process.

        Raises:
            KeyReused: the key was used for another message.
        """
        async with self._changing(caller) as connection:
            before: dict[str, Any] | None = await _records(connection).recall(call)
            if before is None or (before == _OPEN and await _reopened(connection, call)):
                await _records(connection).remember(call, UNKNOWN)
                return None
        return UNKNOWN if before == _OPEN else before

    async def settle(self, caller: Caller, call: KeyedCall, answer: dict[str, Any] | None) -> None:
        """Record what became of the message; None when it was not posted for sure, and may be tried again."""
        async with self._changing(caller) as connection:
            await _records(connection).remember(call, answer or _OPEN)

    def _changing(self, caller: Caller) -> AbstractAsyncContextManager[Connection]:
        settings = {"app.change_set": str(uuid4())}
        return self._database.writing(caller, settings=settings)


def _records(connection: Connection) -> PostgresRecords:
    return PostgresRecords(connection, table=_TABLE)


async def _reopened(connection: Connection, call: KeyedCall) -> bool:
    """Return whether this call, of several with one key, is the one that tries again."""
    row = await connection.fetchval(
        f"SELECT response->>'state' = 'open' FROM {_TABLE} "  # noqa: S608 - a name of ours
        "WHERE tenant = $1 AND subject = $2 AND tool = $3 AND key = $4 FOR UPDATE",
        call.tenant,
        call.subject,
        call.tool,
        call.key,
    )
    return bool(row)
