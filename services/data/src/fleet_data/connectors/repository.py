"""The SQL of accounts: one row for each provider and owner of a tenant, its secret sealed before it comes here."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID

import asyncpg

from fleet_data.claims import Caller
from fleet_data.connectors.models import Account, Identity
from fleet_data.pool import Connection, Database

_ACCOUNT = (
    "id, provider, owner, label, external_id, scopes, connected_at, connected_by, withdrawn_at"
)
_FRESH_S = 60  # a token that ends sooner is not begun with


@dataclass(frozen=True, slots=True)
class StoredAccount:
    """An account as its row has it.

    Attributes:
        secret: sealed tokens; None once consent was withdrawn.
        is_stale: the access token ends soon, or has ended.
    """

    account: Account
    secret: bytes | None = field(repr=False)
    is_stale: bool


@dataclass(frozen=True, slots=True)
class Sealed:
    """Tokens as they are stored."""

    secret: bytes = field(repr=False)
    lifetime_s: float | None


@dataclass(frozen=True, slots=True)
class Begun:
    """A connection that was begun, as its row has it."""

    id: UUID
    provider: str
    owner: str
    started_by: str
    verifier: bytes = field(repr=False)


class AccountRepository:
    """Accounts and begun connections in PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, caller: Caller, provider: str, owner: str) -> StoredAccount | None:
        """Return an account, or None."""
        async with self._database.writing(caller, keep=False) as connection:
            return await AccountTransaction(connection, caller).find(provider, owner)

    async def list(self, caller: Caller) -> Sequence[Account]:
        """Return the accounts that the caller may know of, by provider."""
        async with self._database.writing(caller, keep=False) as connection:
            rows = await connection.fetch(
                f"SELECT {_ACCOUNT} FROM store.accounts ORDER BY provider, owner"  # noqa: S608 - names of ours
            )
        return [_account(row) for row in rows]

    async def tenants_of(self, caller: Caller, provider: str, external_id: str) -> Sequence[str]:
        """Return the tenants that connected this account of the provider."""
        async with self._database.writing(caller, keep=False) as connection:
            rows = await connection.fetch(
                "SELECT * FROM store.tenants_of_account($1, $2)", provider, external_id
            )
        return [row[0] for row in rows]

    async def sealed_before(self, caller: Caller, newest: bytes) -> Sequence[tuple[str, str, str]]:
        """Return tenant, provider and owner of what is sealed with another key than the newest."""
        async with self._database.writing(caller, keep=False) as connection:
            rows = await connection.fetch("SELECT * FROM store.accounts_sealed_before($1)", newest)
        return [(row["tenant"], row["provider"], row["owner"]) for row in rows]

    @asynccontextmanager
    async def changing(self, caller: Caller) -> AsyncGenerator[AccountTransaction]:
        """Yield a transaction; what it did stays unless the block raises."""
        async with self._database.writing(caller) as connection:
            yield AccountTransaction(connection, caller)


class AccountTransaction:
    """What happens to accounts of one caller, together or not at all."""

    def __init__(self, connection: Connection, caller: Caller) -> None:
        self._connection = connection
        self._tenant = caller.tenant

    async def find(self, provider: str, owner: str, *, lock: bool = False) -> StoredAccount | None:
        """Return an account, or None; `lock` makes everybody else who would change it wait."""
        row = await self._connection.fetchrow(
            f"SELECT {_ACCOUNT}, secret, coalesce(expires_at < now() + interval '{_FRESH_S} s', false) AS is_stale "  # noqa: S608 - names of ours
            f"FROM store.accounts WHERE provider = $1 AND owner = $2{' FOR UPDATE' if lock else ''}",
            provider,
            owner,
        )
        if row is None:
            return None
        return StoredAccount(_account(row), row["secret"], row["is_stale"])

    async def put(
        self,
        id_: UUID,
        *,
        provider: str,
        owner: str,
        identity: Identity,
        scopes: Sequence[str],
        by: str,
        sealed: Sealed,
    ) -> Account:
        """Store an account, in the place of the one before it, and return it."""
        row = await self._connection.fetchrow(
            "INSERT INTO store.accounts (tenant, provider, owner, id, label, external_id, scopes, connected_by, "
            "secret, expires_at) "
            "VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, now() + $10 * interval '1 second') "
            "ON CONFLICT (tenant, provider, owner) DO UPDATE SET id = excluded.id, label = excluded.label, "
            "external_id = excluded.external_id, scopes = excluded.scopes, connected_at = now(), "
            "connected_by = excluded.connected_by, secret = excluded.secret, expires_at = excluded.expires_at, "
            "refreshed_at = NULL, withdrawn_at = NULL RETURNING *",
            self._tenant,
            provider,
            owner,
            id_,
            identity.label,
            identity.external_id,
            list(scopes),
            by,
            sealed.secret,
            sealed.lifetime_s,
        )
        assert row is not None  # noqa: S101 - an upsert without a condition returns its row
        return _account(row)

    async def renew(self, id_: UUID, sealed: Sealed) -> None:
        """Store the tokens that took the place of those before them."""
        await self._connection.execute(
            "UPDATE store.accounts SET secret = $2, expires_at = now() + $3 * interval '1 second', "
            "refreshed_at = now() WHERE id = $1",
            id_,
            sealed.secret,
            sealed.lifetime_s,
        )

    async def reseal(self, id_: UUID, secret: bytes) -> None:
        """Store the same tokens, sealed anew."""
        await self._connection.execute(
            "UPDATE store.accounts SET secret = $2 WHERE id = $1", id_, secret
        )

    async def withdraw(self, id_: UUID) -> None:
        """Record that consent is gone; what opened the account goes with it."""
        await self._connection.execute(
            "UPDATE store.accounts SET secret = NULL, expires_at = NULL, withdrawn_at = now() WHERE id = $1",
            id_,
        )

    async def remove(self, id_: UUID) -> None:
        """Forget an account."""
        await self._connection.execute("DELETE FROM store.accounts WHERE id = $1", id_)

    async def begin(self, begun: Begun, lifetime_s: float) -> None:
        """Record a connection that a person has to finish; those whose time is over go."""
        await self._connection.execute("DELETE FROM store.connections WHERE expires_at < now()")
        await self._connection.execute(
            "INSERT INTO store.connections (tenant, id, provider, owner, started_by, verifier, expires_at) "
            "VALUES ($1, $2, $3, $4, $5, $6, now() + $7 * interval '1 second')",
            self._tenant,
            begun.id,
            begun.provider,
            begun.owner,
            begun.started_by,
            begun.verifier,
            lifetime_s,
        )

    async def begun(self, id_: UUID, *, take: bool) -> Begun | None:
        """Return a begun connection, or None; `take` uses it up."""
        doing = "DELETE FROM store.connections" if take else "SELECT * FROM store.connections"
        what = "RETURNING *" if take else ""
        row = await self._connection.fetchrow(
            f"{doing} WHERE id = $1 AND expires_at > now() {what}", id_
        )
        if row is None:
            return None
        return Begun(
            UUID(row["id"]), row["provider"], row["owner"], row["started_by"], row["verifier"]
        )


def _account(row: asyncpg.Record) -> Account:
    return Account(
        id=UUID(row["id"]),
        provider=row["provider"],
        owner=row["owner"],
        label=row["label"],
        external_id=row["external_id"],
        scopes=tuple(row["scopes"]),
        connected_at=row["connected_at"],
        connected_by=row["connected_by"],
        withdrawn_at=row["withdrawn_at"],
    )
