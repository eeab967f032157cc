"""Bulk upsert with the change log on: COPY into a temporary table, then the MERGE that imports and crm_upsert share.

Half of the rows are new and half change what is there. Beside it, the same change log and the same transaction per
record: one INSERT, one COMMIT. The server syncs every commit to disk, as in production.
"""

from __future__ import annotations

import asyncio
import csv
import io
import tempfile
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from bench.report import Report
from fleet_cli.engines.freeport import free_port
from fleet_cli.engines.postgres import Postgres
from fleet_data.claims import Caller, ClaimSigner
from fleet_data.crm.changing import ChangeSet
from fleet_data.crm.objects import OBJECTS
from fleet_data.crm.repository.merge import Merge
from fleet_data.demo.commands import create_tenant
from fleet_data.ids import uuid7
from fleet_data.pool import Connection, Database, Limits, open_pool
from fleet_data.schema.commands import migrate_command
from fleet_data.settings import Settings

ROWS, SINGLES, ROUNDS = 100_000, 300, 3
WHO = Caller("bench", "bench")
FIELDS = ("email", "first_name", "last_name", "phone", "title", "lifecycle", "country", "city")
KEY = "a-claims-key-for-benchmarks-of-32-characters"


@contextmanager
def server(home: Path) -> Iterator[Settings]:
    """Yield the settings of a migrated database with one tenant, on a server of its own."""
    home.chmod(0o711)  # the server may run as a user of its own
    postgres = Postgres(
        home=home / "server", port=free_port(), password="bench", durable=True, log=home / "log"
    )
    child = postgres.start()
    try:
        base = postgres.url().partition("@")[2]
        settings = Settings.model_validate(
            {
                "migrator_url": postgres.url(),
                "reader_url": f"postgresql://crm_reader:r@{base}",
                "database_url": f"postgresql://crm_writer:w@{base}",
                "claims_key": KEY,
            }
        )
        with redirect_stdout(io.StringIO()):
            migrate_command(settings, [])
        asyncio.run(create_tenant(settings, WHO.tenant))
        yield settings
    finally:
        child.stop()


@asynccontextmanager
async def database(settings: Settings) -> AsyncGenerator[Database]:
    reader = open_pool(settings.reader_url.get_secret_value(), size=1)
    writer = open_pool(settings.database_url.get_secret_value(), size=1)
    async with reader, writer:
        yield Database(
            reader, writer, signer=ClaimSigner(KEY), limits=Limits(statement_s=300, wait_s=5)
        )


def people(first: int, count: int, title: str) -> list[list[Any]]:
    """Return rows for the staging table: number, id and the fields."""
    return [
        [
            n,
            uuid7(),
            f"p{n}@example.com",
            f"F{n}",
            f"L{n}",
            f"+49 30 {n}",
            title,
            "lead",
            "Germany",
            "Berlin",
        ]
        for n in range(first, first + count)
    ]


async def upsert(connection: Connection, rows: Sequence[Sequence[Any]]) -> list[Any]:
    """Merge the rows and return what became of each."""
    of = OBJECTS["contact"]
    merge = Merge(of, [of.fields[name] for name in FIELDS], match_on="email")
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    await connection.execute(merge.staging_sql("staged"))
    source = io.BytesIO(text.getvalue().encode())
    await connection.copy_to_table("staged", source=source, format="csv")
    done: list[Any] = await connection.fetch(merge.sql("staged"), WHO.tenant, WHO.subject)
    return done


async def bulk(opened: Database) -> float:
    """Return the rows per second of the best round."""
    best = 0.0
    for turn in range(ROUNDS):
        known = people(turn * ROWS, ROWS // 2, "before")
        rows = people(turn * ROWS, ROWS, f"after {turn}")
        async with changing(opened) as connection:
            await upsert(connection, known)
        started = time.perf_counter()
        async with changing(opened) as connection:
            done = await upsert(connection, rows)
        best = max(best, ROWS / (time.perf_counter() - started))
        assert len(done) == ROWS
    return best


async def singles(opened: Database) -> float:
    """Return how many records per second go in one by one."""
    columns = ", ".join(FIELDS)
    values = ", ".join(f"${n}" for n in range(3, 3 + len(FIELDS)))
    insert = (
        f"INSERT INTO store.contacts (tenant, created_by, updated_by, id, {columns}) "
        f"VALUES ('bench', 'bench', $1, $2::text::uuid, {values})"
    )
    started = time.perf_counter()
    for row in people(10**7, SINGLES, "single"):
        async with changing(opened) as connection:
            await connection.execute(insert, WHO.subject, str(row[1]), *row[2:])
    return SINGLES / (time.perf_counter() - started)


def changing(opened: Database) -> Any:
    return opened.writing(WHO, settings=ChangeSet(uuid7(), "bench").settings)


async def _measure(settings: Settings) -> tuple[float, float]:
    async with database(settings) as opened:
        return await singles(opened), await bulk(opened)


def run() -> Report:
    """Measure both on one server."""
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as settings:
        single, rows = asyncio.run(_measure(settings))
    figures: dict[str, float | None] = {
        "rows_per_s": round(rows),
        "single_per_s": round(single),
        "vs_single": round(rows / single),
    }
    table = "\n".join(
        [
            "| contacts with 8 fields, every change in the change log | rows/s |",
            "|---|---|",
            f"| COPY and MERGE of {ROWS:,}, half new and half changed | {rows:,.0f} |",
            f"| one INSERT and COMMIT each | {single:,.0f} |",
        ]
    )
    return Report(figures, table)
