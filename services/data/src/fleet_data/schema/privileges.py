"""What the role of a connection may do beyond reading, asked from the database itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import asyncpg

from fleet_data.schema.functions import ELSEWHERE, REVOKED, VIEWS

TRUSTED_S = 60.0
"""How long an answer counts: the catalogs take 10 ms to ask, and a probe comes every few seconds."""


class Asked(Protocol):
    """A database that answers the reader's role."""

    async def ask(self, query: str) -> list[asyncpg.Record]:
        """Return the rows of one statement."""


@dataclass(frozen=True, slots=True)
class RolePrivileges:
    """What a role may do beyond reading.

    Attributes:
        role: its name.
        version: major version of the server.
        found: privileges such as `superuser`, `write:public.orders`, `execute:pg_sleep`.
        names: functions and views that callers must not use and that the role may use.
    """

    role: str
    version: int
    found: tuple[str, ...]
    names: frozenset[str]


class PrivilegeWatch:
    """The privileges of a database's reader, asked again once a minute."""

    def __init__(self, database: Asked, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._known: RolePrivileges | None = None
        self._until = float("-inf")

    async def current(self) -> RolePrivileges:
        """Return what the role may do, at most a minute old."""
        if self._known is None or self._clock() >= self._until:
            self._known = await read_privileges(self._database)
            self._until = self._clock() + TRUSTED_S
        return self._known


async def read_privileges(database: Asked) -> RolePrivileges:
    """Return what the role may do."""
    row = (await database.ask(_PRIVILEGES))[0]
    executable = (f"execute:{name}" for name in row["functions"])
    readable = (f"read:{name}" for name in row["views"])
    return RolePrivileges(
        role=row["role"],
        version=row["version"],
        found=(*row["attributes"], *row["members"], *row["writable"], *executable, *readable),
        names=frozenset(row["functions"]) | frozenset(row["views"]),
    )


def _array(names: list[str]) -> str:
    return f"ARRAY[{', '.join(map(repr, names))}]::name[]"


_PRIVILEGES = f"""
SELECT current_user AS role, current_setting('server_version_num')::int / 10000 AS version,
array_remove(ARRAY[
    CASE WHEN EXISTS (SELECT FROM pg_roles s WHERE s.rolsuper AND pg_has_role(r.oid, s.oid, 'MEMBER'))
        THEN 'superuser' END,
    CASE WHEN r.rolbypassrls THEN 'bypassrls' END,
    CASE WHEN r.rolcreaterole THEN 'createrole' END,
    CASE WHEN r.rolcreatedb THEN 'createdb' END,
    CASE WHEN r.rolreplication THEN 'replication' END,
    CASE WHEN has_database_privilege(current_database(), 'CREATE') THEN 'create:database' END,
    CASE WHEN has_database_privilege(current_database(), 'TEMPORARY') THEN 'temporary:database' END,
    CASE WHEN current_setting('temp_file_limit') = '-1' THEN 'unlimited:temporary_files' END
], NULL) AS attributes,
ARRAY(
    SELECT 'member:' || g.rolname FROM pg_roles g
    WHERE NOT r.rolsuper AND pg_has_role(r.oid, g.oid, 'MEMBER') AND g.oid <> r.oid
) AS members,
ARRAY(
    SELECT 'write:' || n.nspname || '.' || c.relname
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE NOT r.rolsuper AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT LIKE 'pg\\_%'
        AND n.nspname <> 'information_schema'
        AND has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE, TRIGGER')
    ORDER BY 1 LIMIT 10
) || ARRAY(
    SELECT 'create:' || n.nspname FROM pg_namespace n
    WHERE NOT r.rolsuper AND n.nspname NOT LIKE 'pg\\_%' AND has_schema_privilege(n.oid, 'CREATE')
    ORDER BY 1 LIMIT 10
) AS writable,
ARRAY(
    SELECT DISTINCT p.proname FROM pg_proc p
    WHERE p.proname = ANY({_array([*REVOKED, *ELSEWHERE])}) AND NOT r.rolsuper
        AND has_function_privilege(p.oid, 'EXECUTE') AND has_schema_privilege(p.pronamespace, 'USAGE')
    ORDER BY 1
) AS functions,
ARRAY(
    SELECT DISTINCT v.view FROM unnest({_array([*VIEWS])}, {_array([*VIEWS.values()])}) v (view, function)
        JOIN pg_class c ON c.relname = v.view AND c.relnamespace = 'pg_catalog'::regnamespace
        JOIN pg_proc p ON p.proname = v.function AND p.pronamespace = 'pg_catalog'::regnamespace
    WHERE NOT r.rolsuper AND has_table_privilege(c.oid, 'SELECT') AND has_function_privilege(p.oid, 'EXECUTE')
    ORDER BY 1
) AS views
FROM pg_roles r WHERE r.rolname = current_user
"""  # noqa: S608 - names of this package
