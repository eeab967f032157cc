"""Every attack through db_query and db_explain: with all walls, and where nothing could be revoked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from urllib.parse import urlsplit

import asyncpg
import pytest

from fleet_cli.testing import PostgresServer
from fleet_data.databases.foreign import ForeignDatabase
from fleet_data.demo.commands import create_tenant
from fleet_data.pool import Database, Limits, open_pool
from fleet_data.query.repository import QueryRepository
from fleet_data.query.service import Queries
from fleet_data.schema.commands import migrate_command
from fleet_data.settings import Settings
from fleet_data.testing.attacks import ATTACKER, CLASSES, UNREVOKE, Witness, attacked, plant

Open = Callable[[Settings], AbstractAsyncContextManager[Database]]

FOREIGN = """
DROP ROLE IF EXISTS foreign_reader;
CREATE ROLE foreign_reader LOGIN PASSWORD 'reader-password' IN ROLE crm_reader;
"""


@dataclass
class Place:
    """A database under attack and how to reach it."""

    admin_url: str
    settings: Settings


@pytest.fixture(scope="module")
def place_of(
    postgres_server: PostgresServer,
    template: str,
    make_settings: Callable[..., Settings],
    open_database: Open,
) -> Iterator[Callable[[str], Place]]:
    """Make each kind of database once."""
    places: dict[str, Place] = {}

    async def prepare(place: Place, sql: str) -> None:
        admin = await asyncpg.connect(place.admin_url, ssl=False)
        await admin.execute(sql)
        await admin.close()
        async with open_database(place.settings) as database:
            await plant(database)

    def make(kind: str) -> Place:
        if kind not in places:
            url = postgres_server.create_database(f"data_attacked_{kind}", template)
            settings = make_settings(url, pool_size=1, query_timeout_s=0.15)
            places[kind] = Place(url, settings)
            asyncio.run(
                prepare(places[kind], "SELECT" if kind == "superuser_made" else UNREVOKE + FOREIGN)
            )
        return places[kind]

    yield make
    for kind in places:
        postgres_server.drop_database(f"data_attacked_{kind}")


@pytest.fixture(scope="module")
def owned(
    lone_postgres_server: PostgresServer,
    make_settings: Callable[..., Settings],
    open_database: Open,
) -> Place:
    """A database on a server where all was made by somebody who may create roles and owns it, and no more."""
    server = lone_postgres_server
    server.execute("CREATE ROLE tenant_admin LOGIN CREATEROLE PASSWORD 'owner-password'")
    server.execute("CREATE DATABASE owned OWNER tenant_admin")
    url = server.url("owned")
    where = urlsplit(url)
    owner = where._replace(
        netloc=f"tenant_admin:owner-password@{where.hostname}:{where.port}", query="sslmode=disable"
    )
    settings = make_settings(url, pool_size=1, query_timeout_s=0.15, migrator_url=owner.geturl())
    assert migrate_command(settings, []) == 0
    for tenant in ("demo", "other"):
        asyncio.run(create_tenant(settings, tenant))

    async def prepare() -> None:
        async with open_database(settings) as database:
            await plant(database)

    asyncio.run(prepare())
    return Place(url, settings)


@pytest.mark.parametrize("kind", CLASSES)
async def test_nothing_gets_through_where_no_superuser_ever_was(
    owned: Place, open_database: Open, kind: str
) -> None:
    async with open_database(owned.settings) as database:
        queries = Queries(QueryRepository(database))

        async def door(sql: str) -> object:
            return await queries.run(ATTACKER, sql)

        reader = owned.settings.reader_url.get_secret_value()
        async with attacked(database, owned.admin_url, reader) as witness:
            assert await witness.suffer(kind, door) == []


@pytest.fixture(params=["superuser_made", "unrevoked"])
def place(request: pytest.FixtureRequest, place_of: Callable[[str], Place]) -> Place:
    return place_of(request.param)


@pytest.fixture
def unrevoked(place_of: Callable[[str], Place]) -> Place:
    return place_of("unrevoked")


@pytest.fixture
async def witness(place: Place, open_database: Open) -> AsyncGenerator[Witness]:
    async with open_database(place.settings) as database:
        reader = place.settings.reader_url.get_secret_value()
        async with attacked(database, place.admin_url, reader) as witness:
            yield witness


@pytest.mark.parametrize("kind", CLASSES)
async def test_db_query_lets_nothing_through(witness: Witness, kind: str) -> None:
    queries = Queries(QueryRepository(witness.database))

    async def door(sql: str) -> object:
        return await queries.run(ATTACKER, sql)

    assert await witness.suffer(kind, door) == []


@pytest.mark.parametrize("kind", CLASSES)
async def test_db_explain_lets_nothing_through(witness: Witness, kind: str) -> None:
    queries = Queries(QueryRepository(witness.database))
    witness.tolerated = frozenset({"role", "revoke", "time", "size"})  # nothing is run

    async def door(sql: str) -> object:
        return await queries.explain(ATTACKER, sql)

    assert await witness.suffer(kind, door) == []


@pytest.mark.parametrize("kind", CLASSES)
async def test_nothing_gets_through_on_a_database_that_is_not_ours(
    unrevoked: Place, kind: str
) -> None:
    where = urlsplit(unrevoked.admin_url)
    url = f"postgresql://foreign_reader:reader-password@{where.hostname}:{where.port}{where.path}"
    limits = Limits(statement_s=0.15, wait_s=5.0)
    async with open_pool(f"{url}?sslmode=disable", size=1) as pool:
        database = ForeignDatabase(pool, limits)
        queries = Queries(QueryRepository(database))

        async def door(sql: str) -> object:
            return await queries.run(ATTACKER, sql)

        async with attacked(
            database, unrevoked.admin_url, unrevoked.settings.reader_url.get_secret_value()
        ) as witness:
            assert await witness.suffer(kind, door) == []
