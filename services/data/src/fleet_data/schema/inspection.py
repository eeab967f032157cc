"""The SQL of the readiness checks."""

from __future__ import annotations

from collections.abc import Sequence

from fleet_data.claims import Caller
from fleet_data.errors import QueryRejected
from fleet_data.pool import Database
from fleet_data.schema.privileges import read_privileges

# What a reader of ours has no business reading: the tables under the views, and the claim keys.
_READABLE = """
SELECT 'read:' || n.nspname || '.' || c.relname AS privilege
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname IN ('store', 'authz')
    AND has_table_privilege(c.oid, 'SELECT')
ORDER BY 1 LIMIT 10
"""
_TOLERATED = ("member:crm_reader", "member:crm_masked", "unlimited:temporary_files")


class SchemaInspector:
    """Asks the database about itself, as the roles of the service."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def reader_privileges(self) -> tuple[str, Sequence[str]]:
        """Return the reader's role and what it may do that a reader must not."""
        mine = await read_privileges(self._database)
        found = [privilege for privilege in mine.found if privilege not in _TOLERATED]
        if "superuser" not in found:  # who has everything
            found += [row["privilege"] for row in await self._database.ask(_READABLE)]
        return mine.role, found

    async def newest_migration(self) -> int:
        """Return the number of the newest applied migration, as the writer sees it; 0 without any."""
        query = "SELECT coalesce(max(number), 0) AS number FROM store.migrations"
        try:
            rows = await self._database.bare(query, role="writer")
        except QueryRejected:  # no such table: never migrated
            return 0
        return int(rows[0]["number"])

    async def verify_claim(self) -> None:
        """Return when the database accepts a claim signed with our key."""
        async with self._database.reading(Caller("readiness", "readiness")) as connection:
            await connection.fetch("SELECT crm.tenant()")
