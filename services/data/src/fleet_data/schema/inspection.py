"""The SQL of the readiness checks."""

from __future__ import annotations

from collections.abc import Sequence

from fleet_data.claims import Caller
from fleet_data.errors import QueryRejected
from fleet_data.pool import Database

# One row: the role's name and what it may do that a reader must not. Names as `accept_privileges` takes them.
_PRIVILEGES = """
SELECT current_user AS role, array_remove(ARRAY[
    CASE WHEN r.rolsuper THEN 'superuser' END,
    CASE WHEN r.rolbypassrls THEN 'bypassrls' END,
    CASE WHEN r.rolcreaterole THEN 'createrole' END,
    CASE WHEN r.rolcreatedb THEN 'createdb' END,
    CASE WHEN r.rolreplication THEN 'replication' END,
    CASE WHEN has_database_privilege(current_database(), 'CREATE') THEN 'create:database' END,
    CASE WHEN has_database_privilege(current_database(), 'TEMPORARY') THEN 'temporary:database' END
], NULL) || ARRAY(
    SELECT 'member:' || g.rolname FROM pg_roles g
    WHERE NOT r.rolsuper AND pg_has_role(r.oid, g.oid, 'MEMBER')
        AND g.oid <> r.oid AND g.rolname <> 'crm_reader'
) || ARRAY(
    SELECT 'write:' || n.nspname || '.' || c.relname
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE NOT r.rolsuper AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT LIKE 'pg\\_%'
        AND n.nspname <> 'information_schema'
        AND has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, TRIGGER')
    ORDER BY 1 LIMIT 10
) || ARRAY(
    SELECT 'read:' || n.nspname || '.' || c.relname
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE NOT r.rolsuper AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname IN ('store', 'authz')
        AND has_table_privilege(c.oid, 'SELECT')
    ORDER BY 1 LIMIT 10
) || ARRAY(
    SELECT DISTINCT 'execute:' || p.proname FROM pg_proc p
    WHERE p.pronamespace = 'pg_catalog'::regnamespace
        AND p.proname IN ('set_config', 'pg_advisory_lock', 'pg_notify', 'pg_terminate_backend', 'query_to_xml')
        AND NOT r.rolsuper AND has_function_privilege(p.oid, 'EXECUTE')
    ORDER BY 1
) AS excess
FROM pg_roles r WHERE r.rolname = current_user
"""


class SchemaInspector:
    """Asks the database about itself, as the roles of the service."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def reader_privileges(self) -> tuple[str, Sequence[str]]:
        """Return the reader's role and what it may do that a reader must not."""
        rows = await self._database.bare(_PRIVILEGES, role="reader")
        return rows[0]["role"], rows[0]["excess"]

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
