"""The SQL of migrating: roles, applied files, claim keys, grants and revokes.

Every statement may run again: an object that is there is fine. What the database refuses for lack of rights is
returned as a sentence, because a managed PostgreSQL gives no superuser.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import asyncpg

from fleet_data.claims import PaddedKey
from fleet_data.schema.functions import REVOKED
from fleet_data.schema.models import MASKED, OWNER, READER, WRITER, Login, Migration

_LOCK = 0x666C656574  # "fleet": one run at a time in one database
_KEPT_KEYS = 2  # the current claim key and the one before, so that a rolling change loses no call

_OWNER_NEEDS = ("set_config", "pg_advisory_lock", "setval", "nextval")
_WRITER_NEEDS = ("set_config", "nextval")

_READER_SETTINGS = {
    "default_transaction_read_only": "on",
    "search_path": "crm, ext",
    "statement_timeout": "60s",
    "lock_timeout": "2s",
    "idle_in_transaction_session_timeout": "60s",
    "work_mem": "16MB",
    "temp_file_limit": "256MB",
}


class MigrationStore:
    """One connection of the migrator."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        self._connection = connection
        self.missing: list[str] = []

    @classmethod
    @asynccontextmanager
    async def connect(cls, url: str, *, timeout_s: float) -> AsyncGenerator[MigrationStore]:
        """Yield a store that holds the migration lock; a second run waits for the first."""
        connection = await asyncpg.connect(url, timeout=timeout_s, statement_cache_size=0)
        try:
            await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
            yield cls(connection)
        finally:
            await connection.close(timeout=timeout_s)

    async def create_roles(self) -> None:
        """Create the roles where they are missing; none can log in yet, none goes round row security."""
        for role in (OWNER, WRITER, READER, MASKED):
            if await self._connection.fetchval("SELECT to_regrole($1) IS NOT NULL", role):
                continue
            # Roles belong to the server, the lock to one database: somebody else may be faster.
            with suppress(asyncpg.DuplicateObjectError, asyncpg.UniqueViolationError):
                await self._connection.execute(
                    f"CREATE ROLE {role} NOLOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION"
                )
        if not await self._connection.fetchval("SELECT pg_has_role($1, $2, 'SET')", READER, MASKED):
            await self._try(
                "callers from whom fields are masked cannot use SQL",
                f"GRANT {MASKED} TO {READER} WITH INHERIT FALSE, SET TRUE",
            )

    async def own_database(self) -> None:
        """Let the owner create, and nobody else; become the owner where that takes a grant."""
        database = await self._connection.fetchval("SELECT quote_ident(current_database())")
        # Since PostgreSQL 16 whoever made a role is its member, and may still not become it.
        right = "SET" if self._connection.get_server_version().major >= 16 else "MEMBER"
        if not await self._connection.fetchval(
            "SELECT pg_has_role(current_user, $1, $2)", OWNER, right
        ):
            await self._connection.execute(f"GRANT {OWNER} TO CURRENT_USER")
        await self._try(
            "the owner could not be given CREATE on the database",
            f"GRANT CREATE, CONNECT, TEMPORARY ON DATABASE {database} TO {OWNER}",
        )
        await self._try(
            "PUBLIC may create temporary tables, or objects in schema public",
            f"REVOKE CREATE, TEMPORARY ON DATABASE {database} FROM PUBLIC;"
            "REVOKE CREATE ON SCHEMA public FROM PUBLIC;"
            f"GRANT CONNECT ON DATABASE {database} TO {READER};"
            f"GRANT CONNECT, TEMPORARY ON DATABASE {database} TO {WRITER}",
            holds=f"SELECT NOT has_database_privilege('{READER}', current_database(), 'TEMPORARY')",
        )

    @asynccontextmanager
    async def as_owner(self) -> AsyncGenerator[None]:
        """Run the block as the owner, so that what it creates is not a superuser's."""
        await self._connection.execute(f"SET ROLE {OWNER}")
        try:
            yield
        finally:
            await self._connection.execute("RESET ROLE")

    async def prepare(self) -> None:
        """Create what the migrations themselves stand on."""
        await self._connection.execute(
            """
            CREATE SCHEMA IF NOT EXISTS store;
            CREATE SCHEMA IF NOT EXISTS ext;
            CREATE TABLE IF NOT EXISTS store.migrations (
                number     integer PRIMARY KEY,
                name       text NOT NULL,
                sha256     text NOT NULL,
                applied_at timestamptz NOT NULL DEFAULT now()
            );
            CREATE EXTENSION IF NOT EXISTS pg_trgm SCHEMA ext;
            """
        )
        await self._try(
            "schema ext could not be opened to the reader and the writer",
            f"GRANT USAGE ON SCHEMA ext TO {READER}, {WRITER}",
        )

    async def applied(self) -> dict[int, str]:
        """Return the checksums of the applied migrations by number."""
        rows = await self._connection.fetch("SELECT number, sha256 FROM store.migrations")
        return {row["number"]: row["sha256"] for row in rows}

    async def apply(self, migration: Migration) -> None:
        """Apply one migration and record it, both or neither."""
        async with self._connection.transaction():
            await self._connection.execute(migration.sql)
            await self._connection.execute(
                "INSERT INTO store.migrations (number, name, sha256) VALUES ($1, $2, $3)",
                migration.number,
                migration.name,
                migration.sha256,
            )

    async def install_claim_key(self, key: PaddedKey) -> None:
        """Accept claims signed with `key`; the newest two keys stay valid."""
        await self._connection.execute(
            "INSERT INTO authz.claim_keys (kid, inner_pad, outer_pad) VALUES ($1, $2, $3) "
            "ON CONFLICT (kid) DO UPDATE SET added_at = now()",
            key.kid,
            key.inner,
            key.outer,
        )
        await self._connection.execute(
            "DELETE FROM authz.claim_keys WHERE kid NOT IN "
            "(SELECT kid FROM authz.claim_keys ORDER BY added_at DESC LIMIT $1)",
            _KEPT_KEYS,
        )

    async def narrow_reader(self) -> None:
        """Take from PUBLIC what a reading caller must not have, and give the reader its limits."""
        await self._try(
            "PUBLIC may still execute set_config, advisory locks, pg_notify and the like "
            "(the REVOKE needs a superuser); tenants stay apart by the signed claim",
            *await self._revokes(),
            holds="SELECT NOT has_function_privilege("
            f"'{READER}', 'set_config(text, text, boolean)', 'EXECUTE')",
        )
        await self._try(
            "sessions of the same role can see each other's statements in pg_stat_activity",
            "REVOKE SELECT ON pg_catalog.pg_stat_activity, pg_catalog.pg_locks FROM PUBLIC",
            holds=f"SELECT NOT has_table_privilege('{READER}', 'pg_stat_activity', 'SELECT')",
        )
        for name, value in _READER_SETTINGS.items():
            await self._try(
                f"{name} of {READER} could not be set to {value!r}",
                f"ALTER ROLE {READER} SET {name} = {_setting(name, value)}",
            )
        await self._try(
            f"search_path of {WRITER} could not be set",
            f"ALTER ROLE {WRITER} SET search_path = store, ext",
        )

    async def set_login(self, login: Login) -> None:
        """Let a role log in with a password; only its verifier goes over the wire and into the server's log."""
        if login.role not in (READER, WRITER):
            self.missing.append(
                f"{login.role} is not one of the roles managed here: grant it membership yourself"
            )
            return
        await self._try(
            f"{login.role} could not be given its login and password",
            f"ALTER ROLE {login.role} LOGIN PASSWORD '{scram_verifier(login.password)}'",
        )

    async def _revokes(self) -> list[str]:
        """Return the statements for the functions this server has and PUBLIC may still execute."""
        rows = await self._connection.fetch(
            """
            SELECT p.oid::regprocedure::text AS signature, p.proname AS name
            FROM pg_proc p
            WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proname = ANY($1)
                AND has_function_privilege($2, p.oid, 'EXECUTE')
            """,
            REVOKED,
            READER,
        )
        revokes = [f"REVOKE EXECUTE ON FUNCTION {row['signature']} FROM PUBLIC" for row in rows]
        for role, needed in ((OWNER, _OWNER_NEEDS), (WRITER, _WRITER_NEEDS)):
            revokes += [
                f"GRANT EXECUTE ON FUNCTION {row['signature']} TO {role}"
                for row in rows
                if row["name"] in needed
            ]
        return revokes

    async def _try(self, otherwise: str, *statements: str, holds: str = "SELECT true") -> None:
        """Run all statements or none; when that is refused, or `holds` is false then, remember `otherwise`.

        PostgreSQL only warns when a REVOKE takes nothing away, hence `holds`.
        """
        try:
            async with self._connection.transaction():
                for statement in statements:
                    await self._connection.execute(statement)
        except asyncpg.InsufficientPrivilegeError:
            self.missing.append(otherwise)
            return
        if not await self._connection.fetchval(holds):
            self.missing.append(otherwise)


def scram_verifier(password: str, *, iterations: int = 4096) -> str:
    """Return what PostgreSQL stores for a password (RFC 5803), so that the password itself is not sent."""
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    encoded = [base64.b64encode(part).decode() for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${iterations}:{encoded[0]}${encoded[1]}:{encoded[2]}"


def _setting(name: str, value: str) -> str:
    return value if name == "search_path" else f"'{value}'"
