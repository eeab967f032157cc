"""The SQL of new tenants: rows go in by COPY, through temporary tables.

COPY into a table with row security is refused, also for rows that the policies allow; from a temporary table the
rows go on with INSERT … SELECT, past policies, triggers and the change log like any other change.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

import asyncpg

from fleet_data.claims import Caller, ClaimSigner
from fleet_data.demo.models import DEFAULT_PIPELINE, DEFAULT_STAGES, Rows


class TenantStore:
    """One transaction of the writer, on behalf of one tenant."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record], tenant: str) -> None:
        self._connection = connection
        self._tenant = tenant

    @classmethod
    @asynccontextmanager
    async def open(
        cls, url: str, caller: Caller, signer: ClaimSigner, *, timeout_s: float
    ) -> AsyncGenerator[TenantStore]:
        """Yield a store whose changes are kept unless the block raises."""
        connection = await asyncpg.connect(url, timeout=timeout_s)
        try:
            async with connection.transaction():
                claim = signer.sign(caller, backend_pid=connection.get_server_pid())
                await connection.execute(f"SET LOCAL app.claims = '{claim}'")
                yield cls(connection, caller.tenant)
        finally:
            await connection.close(timeout=timeout_s)

    async def create(self) -> None:
        """Create the tenant when it is missing, and lock it until the end of the transaction."""
        await self._connection.execute(
            "INSERT INTO store.tenants (tenant) VALUES ($1) ON CONFLICT DO NOTHING", self._tenant
        )
        await self._connection.execute(
            "SELECT FROM store.tenants WHERE tenant = $1 FOR UPDATE", self._tenant
        )

    async def is_seeded(self) -> bool:
        """Return whether the demo data is there."""
        return bool(
            await self._connection.fetchval(
                "SELECT seeded_at IS NOT NULL FROM store.tenants WHERE tenant = $1", self._tenant
            )
        )

    async def mark_seeded(self) -> None:
        """Record that the demo data is there."""
        await self._connection.execute(
            "UPDATE store.tenants SET seeded_at = now() WHERE tenant = $1", self._tenant
        )

    async def add_default_pipeline(self) -> None:
        """Give the tenant the pipeline `sales`, unless it has one."""
        await self.load([DEFAULT_PIPELINE, DEFAULT_STAGES])

    async def load(self, batch: Sequence[Rows]) -> None:
        """Add rows; those whose key is there already stay as they are."""
        for rows in batch:
            draft, names = f"draft_{rows.table}", ", ".join(("tenant", *rows.columns))
            await self._connection.execute(
                f"CREATE TEMPORARY TABLE {draft} ON COMMIT DROP AS SELECT {names} "  # noqa: S608 - own names
                f"FROM store.{rows.table} WITH NO DATA"
            )
            await self._connection.copy_records_to_table(
                draft,
                records=((self._tenant, *values) for values in rows.values),
                columns=("tenant", *rows.columns),
            )
            await self._connection.execute(
                f"INSERT INTO store.{rows.table} ({names}) SELECT {names} FROM {draft} "  # noqa: S608 - own names
                "ON CONFLICT DO NOTHING"
            )
