from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest

from fleet_cli.testing import PostgresServer
from fleet_common.settings import SettingsError
from fleet_data.claims import Caller
from fleet_data.pool import Database
from fleet_data.schema.commands import migrate_command
from fleet_data.schema.models import MIGRATIONS, Login, Migration
from fleet_data.schema.repository import scram_verifier
from fleet_data.schema.service import MigrationChanged, pending_migrations
from fleet_data.settings import Settings

MakeSettings = Callable[..., Settings]
FILLED = """
INSERT INTO store.tenants (tenant) VALUES ('demo');
INSERT INTO store.pipelines (tenant, key, name) VALUES ('demo', 'sales', 'Sales');
INSERT INTO store.stages (tenant, pipeline, key, name, position, kind, probability)
VALUES ('demo', 'sales', 'new', 'New', 1, 'open', 10);
INSERT INTO store.companies (tenant, id, name, created_by, updated_by)
SELECT 'demo', gen_random_uuid(), 'C' || n, 't', 't' FROM generate_series(1, 500) n;
INSERT INTO store.contacts (tenant, id, last_name, email, lifecycle, created_by, updated_by)
SELECT 'demo', gen_random_uuid(), 'P', 'p' || n || '@example.org', 'lead', 't', 't' FROM generate_series(1, 500) n;
INSERT INTO store.leads (tenant, id, name, source, status, created_by, updated_by)
SELECT 'demo', gen_random_uuid(), 'L' || n, 'web', 'new', 't', 't' FROM generate_series(1, 500) n;
INSERT INTO store.deals (tenant, id, name, pipeline, stage, currency, created_by, updated_by)
SELECT 'demo', gen_random_uuid(), 'D' || n, 'sales', 'new', 'EUR', 't', 't' FROM generate_series(1, 500) n;
UPDATE store.contacts SET title = 'T', updated_by = 't';
"""
ROWS = """
SELECT json_build_object(
    'companies', (SELECT count(*) FROM store.companies), 'contacts', (SELECT count(*) FROM store.contacts),
    'leads', (SELECT count(*) FROM store.leads), 'deals', (SELECT count(*) FROM store.deals),
    'log', (SELECT count(*) FROM store.change_log), 'stages', (SELECT count(*) FROM store.deal_stage_history),
    'names', (SELECT md5(string_agg(last_name || email || title, ',' ORDER BY email)) FROM store.contacts))::text
"""


@pytest.fixture
def bare_url(postgres_server: PostgresServer) -> Iterator[str]:
    """A database that was never migrated."""
    name = f"data_{uuid4().hex[:12]}"
    yield postgres_server.create_database(name)
    postgres_server.drop_database(name)


def value(url: str, sql: str) -> Any:
    async def fetch() -> Any:
        connection = await asyncpg.connect(url, ssl=False)
        try:
            return await connection.fetchval(sql)
        finally:
            await connection.close()

    return asyncio.run(fetch())


def test_empty_database_gets_every_migration_once(
    bare_url: str, make_settings: MakeSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = make_settings(bare_url)
    assert migrate_command(settings, []) == 0
    first = capsys.readouterr()
    assert first.out.splitlines() == [
        *(f"applied {migration.name}" for migration in MIGRATIONS),
        f"schema is at {MIGRATIONS[-1].number:04}",
    ]
    assert first.err == ""
    assert migrate_command(settings, []) == 0
    assert capsys.readouterr().out == f"schema is at {MIGRATIONS[-1].number:04}\n"


def test_every_migration_keeps_the_rows_of_a_filled_database(
    bare_url: str,
    make_settings: MakeSettings,
    open_database: Callable[[Settings], AbstractAsyncContextManager[Database]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fill() -> None:
        async with (
            open_database(settings) as database,
            database.writing(Caller("demo", "t")) as connection,
        ):
            await connection.execute(FILLED)

    settings = make_settings(bare_url)
    first = [migration for migration in MIGRATIONS if migration.number < 5]
    monkeypatch.setattr("fleet_data.schema.commands.MIGRATIONS", first)
    assert migrate_command(settings, []) == 0
    asyncio.run(fill())
    monkeypatch.undo()
    before = value(bare_url, ROWS)
    assert migrate_command(settings, []) == 0
    assert value(bare_url, ROWS) == before
    assert json.loads(before)["contacts"] == 500
    # What a migration made of what it found.
    assert value(bare_url, "SELECT count(*) FROM store.lead_status_history") == 500
    assert value(bare_url, "SELECT count(*) FROM store.contacts WHERE props = '{}'") == 500


def test_two_runs_at_once_apply_each_migration_once(
    bare_url: str, make_settings: MakeSettings
) -> None:
    async def both() -> list[int]:
        settings = make_settings(bare_url)
        return await asyncio.gather(
            *(asyncio.to_thread(migrate_command, settings, []) for _ in range(2))
        )

    assert asyncio.run(both()) == [0, 0]
    assert value(bare_url, "SELECT count(*) FROM store.migrations") == len(MIGRATIONS)


def test_everything_belongs_to_the_owner_and_is_held_to_row_security(admin_url: str) -> None:
    strangers = (
        "SELECT count(*) FROM pg_class WHERE relnamespace::regnamespace::text IN ('store', 'crm', 'authz') "
        "AND relkind IN ('r', 'v') AND relowner <> 'crm_migrator'::regrole"
    )
    unforced = (
        "SELECT count(*) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant' "
        "WHERE c.relnamespace = 'store'::regnamespace AND c.relkind = 'r' "
        "AND NOT (c.relrowsecurity AND c.relforcerowsecurity)"
    )
    assert value(admin_url, strangers) == 0
    assert value(admin_url, unforced) == 0


def test_changed_file_stops_the_run(
    admin_url: str, make_settings: MakeSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    value(admin_url, "UPDATE store.migrations SET sha256 = 'x' WHERE number = 2")
    assert migrate_command(make_settings(admin_url), []) == 1
    assert "0002_crm.sql is not the file that was applied" in capsys.readouterr().err


def test_failing_migration_leaves_nothing_behind(
    admin_url: str, make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Migration(9999, "9999_broken", "CREATE TABLE store.half (x int); SELECT 1 / 0;")
    monkeypatch.setattr("fleet_data.schema.commands.MIGRATIONS", (*MIGRATIONS, broken))
    assert migrate_command(make_settings(admin_url), []) == 1
    assert value(admin_url, "SELECT to_regclass('store.half')") is None
    assert value(admin_url, "SELECT max(number) FROM store.migrations") == MIGRATIONS[-1].number


def test_no_two_migrations_have_one_number() -> None:
    numbers = [migration.number for migration in MIGRATIONS]
    assert len(numbers) == len(set(numbers))


def test_unknown_applied_migration_is_refused() -> None:
    with pytest.raises(MigrationChanged, match="9998 is applied and unknown"):
        pending_migrations(MIGRATIONS, {9998: "x"})


@pytest.mark.usefixtures("template")  # which makes the roles
def test_owner_without_superuser_migrates_and_says_what_is_missing(
    postgres_server: PostgresServer,
    bare_url: str,
    make_settings: MakeSettings,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = urlsplit(bare_url)
    name = place.path[1:]
    owner = f"owner_{uuid4().hex[:8]}"
    postgres_server.execute(f"CREATE ROLE {owner} LOGIN CREATEROLE PASSWORD 'owner'")
    postgres_server.execute(f'ALTER DATABASE "{name}" OWNER TO {owner}')
    # The roles exist already and belong to the superuser; whoever runs migrations must be let into the owner's.
    postgres_server.execute(f"GRANT crm_migrator TO {owner}")
    settings = make_settings(bare_url)
    url = f"postgresql://{owner}:owner@{place.hostname}:{place.port}/{name}?sslmode=disable"
    try:
        mine = settings.model_validate({**settings.model_dump(), "migrator_url": url})
        assert migrate_command(mine, []) == 0
        said = capsys.readouterr()
        assert "set_config" in said.err
        assert "pg_stat_activity" in said.err
        assert value(bare_url, "SELECT count(*) FROM store.migrations") == len(MIGRATIONS)
    finally:
        postgres_server.execute(f'ALTER DATABASE "{name}" OWNER TO CURRENT_USER')
        postgres_server.execute(f"DROP OWNED BY {owner} CASCADE")
        postgres_server.execute(f"DROP ROLE {owner}")


def test_key_before_the_current_one_stays_valid_and_older_ones_do_not(
    admin_url: str, make_settings: MakeSettings
) -> None:
    for key in ("a" * 32, "b" * 32):
        assert migrate_command(make_settings(admin_url, claims_key=key), []) == 0
    assert value(admin_url, "SELECT count(*) FROM authz.claim_keys") == 2


def test_migrate_without_its_url_names_the_variable(make_settings: MakeSettings) -> None:
    settings = make_settings("postgresql://x/x").model_copy(update={"migrator_url": None})
    with pytest.raises(SettingsError, match="FLEET_DATA_MIGRATOR_URL"):
        migrate_command(settings, [])


def test_database_that_is_away_ends_with_a_sentence(
    make_settings: MakeSettings, capsys: pytest.CaptureFixture[str], unused_tcp_port: int
) -> None:
    url = f"postgresql://postgres:secret@127.0.0.1:{unused_tcp_port}/x"
    assert migrate_command(make_settings(url), []) == 1
    said = capsys.readouterr().err
    assert "database is not available" in said
    assert "secret" not in said


def test_login_of_a_url_is_decoded_and_not_shown() -> None:
    login = Login.of_url("postgresql://crm_reader:a%2Fb@host/db")
    assert login == Login("crm_reader", "a/b")
    assert "a/b" not in repr(login)
    assert Login.of_url("postgresql://host/db") is None


def test_role_with_a_name_of_its_own_is_left_alone(
    admin_url: str, make_settings: MakeSettings, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = make_settings(admin_url)
    url = settings.reader_url.get_secret_value().replace("crm_reader", "analytics")
    theirs = settings.model_validate({**settings.model_dump(), "reader_url": url})
    assert migrate_command(theirs, []) == 0
    assert "analytics is not one of the roles managed here" in capsys.readouterr().err


def test_verifier_differs_each_time_and_hides_the_password() -> None:
    first, second = scram_verifier("hunter2"), scram_verifier("hunter2")
    assert first.startswith("SCRAM-SHA-256$4096:")
    assert first != second
    assert "hunter2" not in first
