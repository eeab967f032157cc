"""Bulk upsert with the change log on: COPY into a temporary table, then the MERGE that imports and crm_upsert share.

Half of the rows are new and half change what is there. Beside it, the floor: the same rows by COPY into a bare table
with the same indexes, without log, row security or foreign keys; the upsert that a driver offers for many rows, into
the same bare table; and the same change log and the same transaction per record: one INSERT, one COMMIT. The server
syncs every commit to disk, as in production. Then a whole import of a file, and a page far down a table of a million.
"""

from __future__ import annotations

import asyncio
import csv
import io
import tempfile
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from bench.keyset import page_ms
from bench.report import Report
from fleet_cli.engines.freeport import free_port
from fleet_cli.engines.postgres import Postgres
from fleet_common.metrics import Metrics
from fleet_data.claims import Caller, ClaimSigner
from fleet_data.crm.changing import ChangeSet
from fleet_data.crm.objects import OBJECTS
from fleet_data.demo.commands import create_tenant
from fleet_data.ids import uuid7
from fleet_data.pool import Database, Limits, open_pool
from fleet_data.schema.commands import migrate_command
from fleet_data.settings import Settings
from fleet_data.transfer.merging import Merging
from fleet_data.transfer.models import ImportRequest, Job
from fleet_data.transfer.opening import open_transfers

ROWS, SINGLES, ROUNDS = 100_000, 300, 2
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
    reader = open_pool(settings.reader_url.get_secret_value(), size=4)
    writer = open_pool(settings.database_url.get_secret_value(), size=4)
    async with reader, writer:
        yield Database(
            reader, writer, signer=ClaimSigner(KEY), limits=Limits(statement_s=300, wait_s=5)
        )


@dataclass(frozen=True)
class Rates:
    """Rows per second; the best of the rounds."""

    new: float
    mixed: float
    floor: float
    many: float
    imported: float
    single: float


def people(first: int, count: int, title: str) -> list[list[Any]]:
    """Return rows for the staging table: line, whether it names an id, id and the fields."""
    return [
        [
            line,
            False,
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
        for line, n in enumerate(range(first, first + count), start=1)
    ]


async def chunks(rows: list[list[Any]]) -> AsyncGenerator[bytes]:
    """Yield the rows as CSV, as an import does, while the server takes those before."""
    for start in range(0, len(rows), 2000):
        yield _csv(rows[start : start + 2000])
        await asyncio.sleep(0)


def _csv(rows: list[list[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


async def upsert(opened: Database, rows: list[list[Any]]) -> float:
    """Merge the rows, and return how many per second that was."""
    of = OBJECTS["contact"]
    fields = [of.fields[name] for name in FIELDS]
    started = time.perf_counter()
    async with changing(opened) as connection:
        merging = Merging(connection, WHO, of, fields, "email")
        await merging.stage(chunks(rows))
        counts, rejects = await merging.merge()
    took = time.perf_counter() - started
    assert counts["created"] + counts["updated"] == len(rows), rejects
    return len(rows) / took


async def floor(url: str, rows: list[list[Any]]) -> float:
    """Return how many rows per second COPY puts into a bare table with the same indexes."""
    async with bare_table(url) as admin:
        started = time.perf_counter()
        await _copy_bare(admin, rows)
        return len(rows) / (time.perf_counter() - started)


async def many(url: str, rows: list[list[Any]]) -> float:
    """Return how many rows per second executemany() upserts there in one transaction, half of them new."""
    columns = ("tenant", "created_by", "updated_by", "id", *FIELDS)
    sets = ", ".join(f"{name} = excluded.{name}" for name in FIELDS)
    upsert = (
        f"INSERT INTO bare ({', '.join(columns)}) VALUES ({', '.join(f'${n + 1}' for n in range(len(columns)))}) "
        f"ON CONFLICT (tenant, email) WHERE deleted_at IS NULL DO UPDATE SET version = bare.version + 1, "
        f"updated_at = now(), {sets}"
    )
    async with bare_table(url) as admin:
        await _copy_bare(admin, rows[::2])
        changed = [["bench", "b", "b", uuid7(), *row[3:]] for row in rows]
        started = time.perf_counter()
        async with admin.transaction():
            await admin.executemany(upsert, changed)
        return len(rows) / (time.perf_counter() - started)


@asynccontextmanager
async def bare_table(url: str) -> AsyncGenerator[Any]:
    """Yield a connection to an empty table with the columns and indexes of contacts, and nothing else."""
    admin = await asyncpg.connect(url)
    try:
        await admin.execute(BARE)
        yield admin
    finally:
        await admin.close()


async def _copy_bare(admin: Any, rows: list[list[Any]]) -> None:
    body = _csv([["bench", "b", "b", *row[2:]] for row in rows])
    columns = ["tenant", "created_by", "updated_by", "id", *FIELDS]
    await admin.copy_to_table("bare", source=io.BytesIO(body), columns=columns, format="csv")


BARE = """
DROP TABLE IF EXISTS bare;
CREATE TABLE bare (LIKE store.contacts INCLUDING DEFAULTS INCLUDING INDEXES)
"""


async def whole_import(settings: Settings, opened: Database, first: int) -> float:
    """Return how many lines per second import_data takes in, from the file on: read, checked, merged, recorded."""
    lines = [list(FIELDS), *(row[3:] for row in people(first, ROWS, "imported"))]
    with tempfile.TemporaryDirectory() as folder:
        chosen = settings.model_copy(update={"files_dir": Path(folder), "import_mb": 100})
        async with open_transfers(chosen, opened, Metrics("bench", "0")) as (_, imports):
            upload = await imports.uploads.of_text(WHO, _csv(lines).decode())
            request = ImportRequest("contact", "csv", upload, match_on="email")
            started = time.perf_counter()
            job = await imports.start(WHO, request, key=None)
            while not job.has_ended:
                job = await imports.desk.watch(WHO, job, _silently)
            took = time.perf_counter() - started
    assert job.result is not None, job.error
    assert job.result["created"] == ROWS
    return ROWS / took


async def _silently(_job: Job) -> None:
    """Report to nobody."""


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
            await connection.execute(insert, WHO.subject, str(row[2]), *row[3:])
    return SINGLES / (time.perf_counter() - started)


def changing(opened: Database) -> Any:
    return opened.writing(WHO, settings=ChangeSet(uuid7(), "bench").settings)


async def _measure(settings: Settings) -> Rates:
    """Take all of them in turn, round by round."""
    url = settings.migrator_url.get_secret_value() if settings.migrator_url else ""
    rounds = []
    async with database(settings) as opened:
        for turn in range(ROUNDS):
            first = turn * 10 * ROWS
            await upsert(opened, people(first, ROWS // 2, "before"))
            rounds.append(
                Rates(
                    mixed=await upsert(opened, people(first, ROWS, "after")),
                    new=await upsert(opened, people(first + ROWS, ROWS, "new")),
                    floor=await floor(url, people(first, ROWS, "bare")),
                    many=await many(url, people(first, ROWS, "bare")) if turn == 0 else 0.0,
                    imported=await whole_import(settings, opened, first + 2 * ROWS),
                    single=await singles(opened) if turn == 0 else 0.0,
                )
            )
    return Rates(*(max(getattr(each, name) for each in rounds) for name in Rates.__annotations__))


def run() -> Report:
    """Measure all on one server."""
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as settings:
        with redirect_stdout(io.StringIO()):  # the worker tells what it does
            rates = asyncio.run(_measure(settings))
        page = asyncio.run(page_ms(settings))
    figures: dict[str, float | None] = {
        "rows_per_s": round(rates.mixed),
        "single_per_s": round(rates.single),
        "vs_single": round(rates.mixed / rates.single),
        "vs_floor": round(rates.mixed / rates.floor, 2),
        "vs_executemany": round(rates.mixed / rates.many, 2),
        "import_rows_per_s": round(rates.imported),
        "keyset_ms": page,
    }
    lines = [
        "| contacts with 8 fields; ours with every change in the change log | rows/s | of the floor |",
        "|---|---|---|",
        *(
            f"| {title} | {rate:,.0f} | {rate / rates.floor:.2f} |"
            for title, rate in (
                ("the floor: COPY into a bare table with the same indexes", rates.floor),
                (f"**ours**: COPY and MERGE of {ROWS:,}, half new and half changed", rates.mixed),
                ("**ours**: the same, all new", rates.new),
                (
                    f"**ours**: `import_data` of a CSV file of {ROWS:,} lines, end to end",
                    rates.imported,
                ),
                ("executemany: INSERT … ON CONFLICT into the bare table", rates.many),
                ("one INSERT and COMMIT each, every change in the change log", rates.single),
            )
        ),
        "",
        f"A page of 50 at row 900,000 of a million takes the server {page:.2f} ms, under row security.",
    ]
    return Report(figures, "\n".join(lines))
