"""Migrating: roles, files, claim key, rights and logins, in that order, as often as one likes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from fleet_common.errors import Conflict
from fleet_data.claims import PaddedKey
from fleet_data.schema.models import Login, Migration, MigrationReport


class MigrationChanged(Conflict):
    """Raised when an applied file is not the one that was applied, or is gone."""


class Store(Protocol):
    """What migrating asks of the database."""

    missing: list[str]

    async def create_roles(self) -> None:
        """Create the roles where they are missing."""

    async def own_database(self) -> None:
        """Let the owner create, and nobody else."""

    def as_owner(self) -> AbstractAsyncContextManager[None]:
        """Run the block as the owner."""

    async def prepare(self) -> None:
        """Create what the migrations stand on."""

    async def applied(self) -> dict[int, str]:
        """Return the checksums of the applied migrations by number."""

    async def apply(self, migration: Migration) -> None:
        """Apply one migration and record it."""

    async def install_claim_key(self, key: PaddedKey) -> None:
        """Accept claims signed with this key."""

    async def narrow_reader(self) -> None:
        """Take from the reader what it must not have."""

    async def set_login(self, login: Login) -> None:
        """Let a role log in."""


async def migrate(
    store: Store, migrations: Sequence[Migration], *, key: PaddedKey, logins: Sequence[Login]
) -> MigrationReport:
    """Bring the database to the newest migration and the roles to their rights.

    Raises:
        MigrationChanged: an applied file has another checksum now, or this version does not know it.
    """
    await store.create_roles()
    await store.own_database()
    async with store.as_owner():
        await store.prepare()
        pending = pending_migrations(migrations, await store.applied())
        for migration in pending:
            await store.apply(migration)
        await store.install_claim_key(key)
    await store.narrow_reader()
    for login in logins:
        await store.set_login(login)
    return MigrationReport(
        applied=[migration.name for migration in pending],
        version=max(migration.number for migration in migrations),
        missing=store.missing,
    )


def pending_migrations(migrations: Sequence[Migration], applied: dict[int, str]) -> list[Migration]:
    """Return what is still to be applied, in order.

    Raises:
        MigrationChanged: see `migrate`.
    """
    known = {migration.number: migration for migration in migrations}
    for number, checksum in applied.items():
        if number not in known:
            raise MigrationChanged(f"migration {number:04} is applied and unknown to this version")
        if known[number].sha256 != checksum:
            raise MigrationChanged(
                f"{known[number].name}.sql is not the file that was applied",
                hint="Put the file back and write a new one",
            )
    return [migration for migration in migrations if migration.number not in applied]
