"""Idempotency keys in PostgreSQL, beside the rows they guard.

The service's own migrations create the table, since its row security and grants are the service's:

    CREATE TABLE store.idempotency (
        tenant text, subject text, tool text, key text, args_hash text NOT NULL, response jsonb,
        created_at timestamptz NOT NULL DEFAULT now(), expires_at timestamptz NOT NULL,
        PRIMARY KEY (tenant, subject, tool, key));
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from fleet_common.errors import KeyReused
from fleet_common.idempotency import KeyedCall

if TYPE_CHECKING:
    import asyncpg

_KEY_LIFE = timedelta(hours=24)


class PostgresRecords:
    """Keys and answers of one transaction; implements `fleet_common.idempotency.Records`."""

    def __init__(
        self,
        connection: asyncpg.Connection[asyncpg.Record],
        *,
        table: str,
        life: timedelta = _KEY_LIFE,
    ) -> None:
        """Use the transaction that `connection` is in; `table` is a name of ours and never a caller's."""
        self._connection = connection
        self._table = table
        self._life = f"{life.total_seconds():.0f} seconds"

    async def recall(self, call: KeyedCall) -> Any | None:
        """Return the answer given before, or None and take the key.

        A call under way with the same key is waited for: its row is locked until it ends.

        Raises:
            KeyReused: the key was used with other arguments.
        """
        taken = await self._connection.fetchval(
            f"""
            INSERT INTO {self._table} AS i (tenant, subject, tool, key, args_hash, expires_at)
            VALUES ($1, $2, $3, $4, $5, now() + $6::text::interval)
            ON CONFLICT (tenant, subject, tool, key) DO UPDATE
                SET args_hash = excluded.args_hash, response = NULL, created_at = now(),
                    expires_at = excluded.expires_at
                WHERE i.expires_at < now()
            RETURNING true
            """,  # noqa: S608 - a name of ours
            *_scope(call),
            call.digest,
            self._life,
        )
        if taken:
            return None
        answer = await self.answered(call)
        if (
            answer is None
        ):  # taken, and not answered: whoever changed the table, nothing happens twice
            raise KeyReused
        return answer

    async def answered(self, call: KeyedCall) -> Any | None:
        """Return the answer given before, or None; takes nothing, so that a plan may ask too.

        Raises:
            KeyReused: the key was used with other arguments.
        """
        row = await self._connection.fetchrow(
            f"SELECT args_hash, response::text AS response FROM {self._table} "  # noqa: S608 - a name of ours
            "WHERE tenant = $1 AND subject = $2 AND tool = $3 AND key = $4 AND expires_at >= now()",
            *_scope(call),
        )
        if row is None:
            return None
        if row["args_hash"] != call.digest:
            raise KeyReused
        return None if row["response"] is None else json.loads(row["response"])

    async def remember(self, call: KeyedCall, answer: Any) -> None:
        """Record the answer under the key that `recall` took."""
        await self._connection.execute(
            f"UPDATE {self._table} SET response = $5::text::jsonb "  # noqa: S608 - a name of ours
            "WHERE tenant = $1 AND subject = $2 AND tool = $3 AND key = $4",
            *_scope(call),
            json.dumps(answer),
        )


def _scope(call: KeyedCall) -> tuple[str, str, str, str]:
    return call.tenant, call.subject, call.tool, call.key
