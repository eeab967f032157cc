"""The audit sink `postgres`: one INSERT for each group of records, by a role that may do nothing else.

The table is `audit.sql` beside this file. A record stands in it exactly as a file would hold it, so a dump in the
order of `chain, seq` is checked like a file. Another role, if there is one, finds records again, of one tenant at
a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg

from fleet_common.audit.chain import Record, peek_record
from fleet_common.audit.reading import Question
from fleet_common.audit.sinks import Tail
from fleet_common.errors import Unavailable

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

SCHEMA = Path(__file__).with_name("audit.sql")
_TIMEOUT_S = 5.0
# Without a conflict target: naming one would need the right to read. A group comes twice when its answer got lost.
_INSERT = """
    INSERT INTO fleet_audit (chain, seq, record, service, tenant)
    SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::text[])
    ON CONFLICT DO NOTHING
"""
# A record is written after it was made: what is asked for by its own time cannot have been written before.
_NEWEST_FIRST = """
    SELECT record FROM fleet_audit
    WHERE tenant = $1 AND ($2::text IS NULL OR service = $2)
      AND ($3::timestamptz IS NULL OR written >= $3)
    ORDER BY written DESC, chain, seq DESC LIMIT $4
"""
_PREFETCH = 200
_READERS = 4  # connections at once


class PostgresSink:
    """Records as rows; the connection is made again whenever it was lost."""

    kind = "postgres"

    def __init__(self, url: str) -> None:
        self._url = url
        self._runner = asyncio.Runner()  # of the writer thread, which has no loop of its own
        self._connection: Connection | None = None

    def open(self) -> Tail:
        """Return nothing: this role may not read, so each chain stands alone."""
        return Tail()

    def write(self, lines: Sequence[bytes]) -> None:
        """Insert the records in one statement.

        Raises:
            ConnectionError: the database did not take them.
        """
        try:
            self._runner.run(self._insert(lines))
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as exc:
            self._forget()
            raise ConnectionError(f"the database did not take them ({type(exc).__name__})") from exc

    def close(self) -> None:
        """End the connection."""
        self._forget()
        self._runner.close()

    async def _insert(self, lines: Sequence[bytes]) -> None:
        if self._connection is None or self._connection.is_closed():
            self._connection = await asyncpg.connect(
                self._url, timeout=_TIMEOUT_S, command_timeout=_TIMEOUT_S
            )
        records = [peek_record(line) for line in lines]
        await self._connection.execute(
            _INSERT,
            [record["chain"] for record in records],
            [record["seq"] for record in records],
            [line.decode().rstrip("\n") for line in lines],
            [record.get("service") for record in records],
            [record.get("tenant") for record in records],
        )

    def _forget(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None


class PostgresReader:
    """Finds what all replicas wrote, as a role that row security shows one tenant at a time.

    Args:
        url: DSN of that role.
        service: whose records; None for those of the whole fleet.
    """

    def __init__(self, url: str, service: str | None) -> None:
        self.covers = f"all replicas of {service}" if service else "all services of the fleet"
        self._url = url
        self._service = service
        self._room = asyncio.Semaphore(_READERS)

    async def find(self, question: Question, *, limit: int, most: int) -> tuple[list[Record], int]:
        """Return the newest records that fit, `limit` at most, and how many of at most `most` were looked at.

        Raises:
            Unavailable: the database does not answer.
        """
        try:
            async with self._room:
                connection = await asyncpg.connect(
                    self._url, timeout=_TIMEOUT_S, command_timeout=_TIMEOUT_S
                )
                try:
                    return await self._find(connection, question, limit, most)
                finally:
                    connection.terminate()
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as exc:
            raise Unavailable("the audit database") from exc

    async def _find(
        self, connection: Connection, question: Question, limit: int, most: int
    ) -> tuple[list[Record], int]:
        found: list[Record] = []
        looked_at = 0
        async with connection.transaction(readonly=True):
            tenant = question.tenant or ""
            await connection.execute("SELECT set_config('fleet.tenant', $1, true)", tenant)
            asked = (tenant, self._service, question.since, most)
            async for row in connection.cursor(_NEWEST_FIRST, *asked, prefetch=_PREFETCH):
                looked_at += 1
                record = peek_record(f"{row['record']}\n".encode())
                if question.fits(record):
                    found.append(record)
                if len(found) == limit:
                    break
        return found, looked_at
