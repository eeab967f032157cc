"""The audit sink `postgres`: one INSERT for each group of records, by a role that may do nothing else.

The table is `audit.sql` beside this file. A record stands in it exactly as a file would hold it, so a dump in the
order of `chain, seq` is checked like a file.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg

from fleet_common.audit.chain import peek_record
from fleet_common.audit.sinks import Tail

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

SCHEMA = Path(__file__).with_name("audit.sql")
_TIMEOUT_S = 5.0
# Without a conflict target: naming one would need the right to read. A group comes twice when its answer got lost.
_INSERT = """
    INSERT INTO fleet_audit (chain, seq, record)
    SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[])
    ON CONFLICT DO NOTHING
"""


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
        )

    def _forget(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
