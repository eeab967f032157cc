"""Every attack of the corpus through an export: COPY takes many statements, so what it is given must be one."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import get_args

import asyncpg
import pytest

from fleet_cli.testing import PostgresServer
from fleet_data.crm.repository import CrmRepository
from fleet_data.crm.values import parse_value
from fleet_data.pool import Database
from fleet_data.settings import Settings
from fleet_data.testing.attacks import ATTACKER, CLASSES, UNREVOKE, Witness, attacked, plant
from fleet_data.transfer.copying import Copier
from fleet_data.transfer.models import ExportRequest, Format
from fleet_data.transfer.outputs import Measured
from fleet_data.transfer.sources import source_of

Open = Callable[[Settings], AbstractAsyncContextManager[Database]]


@pytest.fixture(scope="module", params=["superuser_made", "unrevoked"])
def place(
    request: pytest.FixtureRequest,
    postgres_server: PostgresServer,
    template: str,
    make_settings: Callable[..., Settings],
    open_database: Open,
) -> Iterator[tuple[str, Settings]]:
    """A database under attack, and the settings of a service on it."""
    url = postgres_server.create_database("data_attacked_exports", template)
    settings = make_settings(url, pool_size=1, query_timeout_s=0.15)

    async def prepare() -> None:
        if request.param == "unrevoked":
            admin = await asyncpg.connect(url, ssl=False)
            await admin.execute(UNREVOKE)
            await admin.close()
        async with open_database(settings) as database:
            await plant(database)

    asyncio.run(prepare())
    yield url, settings
    postgres_server.drop_database("data_attacked_exports")


@pytest.fixture
async def witness(place: tuple[str, Settings], open_database: Open) -> AsyncGenerator[Witness]:
    url, settings = place
    async with open_database(settings) as database:
        reader = settings.reader_url.get_secret_value()
        async with attacked(database, url, reader) as witness:
            yield witness


# Formats differ in what is put round the statement: one each keeps this quick, and every class meets one.
@pytest.mark.parametrize(
    ("kind", "format_"),
    [(kind, get_args(Format)[number % 3]) for number, kind in enumerate(CLASSES)],
)
async def test_an_export_lets_nothing_through(witness: Witness, kind: str, format_: Format) -> None:
    assert isinstance(witness.database, Database)
    copier = Copier(witness.database)
    known = CrmRepository(witness.database, parse=parse_value)
    witness.tolerated = frozenset({"size"})  # a row may have a megabyte here, and the file a limit

    async def door(sql: str) -> object:
        shown = io.BytesIO()
        file = Measured(shown, 1_500_000)

        async def sink(rows: bytes) -> None:
            file.write(rows)

        request = ExportRequest(format_, sql=sql, max_rows=1000)
        source = await source_of(known, ATTACKER, request)
        await copier.copy(ATTACKER, source, format_, sink)
        return shown.getvalue().decode()

    assert await witness.suffer(kind, door) == []
