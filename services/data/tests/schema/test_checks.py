from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import asyncpg
import pytest

from fleet_common.errors import NotConfigured, PermissionDenied, Unavailable
from fleet_data.pool import Database
from fleet_data.schema.checks import OverPrivileged, Privileges
from fleet_data.schema.inspection import SchemaInspector
from fleet_data.schema.models import MIGRATIONS, Migration
from fleet_data.settings import Settings

Open = Callable[[Settings], AbstractAsyncContextManager[Database]]


def checks(database: Database, *, accepted: tuple[str, ...] = ()) -> Privileges:
    return Privileges(SchemaInspector(database), MIGRATIONS, accepted=accepted)


async def test_migrated_database_is_ready(database: Database) -> None:
    await checks(database).check_reader()
    await checks(database).check_schema()


async def test_superuser_as_reader_is_refused(settings: Settings, open_database: Open) -> None:
    wide = settings.model_validate({**settings.model_dump(), "reader_url": settings.migrator_url})
    async with open_database(wide) as database:
        with pytest.raises(OverPrivileged, match=r"role postgres has too many.*superuser"):
            await checks(database).check_reader()


async def test_writer_as_reader_is_refused(settings: Settings, open_database: Open) -> None:
    url = settings.database_url
    wide = settings.model_validate({**settings.model_dump(), "reader_url": url})
    async with open_database(wide) as database:
        with pytest.raises(OverPrivileged, match=r"write:store\.companies"):
            await checks(database).check_reader()


@pytest.mark.parametrize(
    ("grant", "privilege"),
    [
        ("GRANT INSERT ON crm.notes TO crm_reader", "write:crm.notes"),
        ("GRANT SELECT ON store.contacts TO crm_reader", "read:store.contacts"),
        ("GRANT EXECUTE ON FUNCTION set_config TO crm_reader", "execute:set_config"),
        ("GRANT EXECUTE ON FUNCTION pg_notify TO crm_reader", "execute:pg_notify"),
    ],
)
async def test_grant_too_many_is_named(
    database: Database,
    admin_connection: asyncpg.Connection[asyncpg.Record],
    grant: str,
    privilege: str,
) -> None:
    await admin_connection.execute(grant)
    with pytest.raises(OverPrivileged, match=privilege):
        await checks(database).check_reader()
    await checks(database, accepted=(privilege,)).check_reader()


async def test_unknown_claim_key_is_not_ready(settings: Settings, open_database: Open) -> None:
    strange = settings.model_validate({**settings.model_dump(), "claims_key": "z" * 40})
    async with open_database(strange) as database:
        with pytest.raises(PermissionDenied, match="unknown key"):
            await checks(database).check_reader()


async def test_pending_migration_is_not_ready(database: Database) -> None:
    newer = (*MIGRATIONS, Migration(9999, "9999_next", ""))
    with pytest.raises(NotConfigured, match="this version needs 9999"):
        await Privileges(SchemaInspector(database), newer).check_schema()


async def test_database_that_was_never_migrated_is_not_ready(
    database: Database, admin_connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    await admin_connection.execute("DROP SCHEMA store CASCADE")
    with pytest.raises(NotConfigured, match="schema is at 0000"):
        await checks(database).check_schema()


async def test_database_that_is_away_is_unavailable(
    settings: Settings, open_database: Open, unused_tcp_port: int
) -> None:
    nowhere = f"postgresql://crm_reader:x@127.0.0.1:{unused_tcp_port}/x?sslmode=disable"
    away = settings.model_validate({**settings.model_dump(), "reader_url": nowhere})
    async with open_database(away) as database:
        with pytest.raises(Unavailable):
            await checks(database).check_reader()


async def test_narrow_reader_is_asked_again_after_a_minute(
    database: Database, admin_connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    now = [0.0]
    privileges = Privileges(SchemaInspector(database), MIGRATIONS, clock=lambda: now[0])
    await privileges.check_reader()
    await admin_connection.execute("GRANT INSERT ON crm.notes TO crm_reader")
    await privileges.check_reader()
    now[0] = 60.0
    with pytest.raises(OverPrivileged):
        await privileges.check_reader()
