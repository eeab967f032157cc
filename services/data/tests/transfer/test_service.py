from __future__ import annotations

import asyncio
import csv
import gzip
import hashlib
import io
import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import asyncpg
import pytest

# It has no types.
from pyarrow import parquet  # type: ignore[import-untyped]

from fleet_common.errors import InvalidInput, KeyReused, NotConfigured, NotFound, PermissionDenied
from fleet_common.testing import wait_until
from fleet_data.claims import Caller
from fleet_data.crm.service import Crm
from fleet_data.pool import Database
from fleet_data.transfer.models import ExportRequest, Job
from fleet_data.transfer.repository import Depth
from fleet_data.transfer.service import Exports
from fleet_data.transfer.sources import MASK

OpenExports = Callable[..., AbstractAsyncContextManager[Exports]]
Admin: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
ENDLESS = (
    "SELECT repeat('x', 1000) AS a FROM generate_series(1, 9999) b, generate_series(1, 9999) c"
)
TRICKY = 'Comma, "quote"\nbreak \\N \\. ü €'


async def exported(exports: Exports, caller: Caller, request: ExportRequest) -> Job:
    """Return the job of an export once it has ended."""

    async def report(_: Job) -> None:
        pass

    job = await exports.start(caller, request, key=None)
    return await exports.desk.watch(caller, job, report)


def content(files: Path, job: Job) -> bytes:
    """Return the file of a job, after comparing it with what its row says."""
    path = files / job.tenant / "exports" / str(job.file)
    data = path.read_bytes()
    assert (len(data), hashlib.sha256(data).hexdigest()) == (job.bytes, job.sha256)
    assert not list(path.parent.glob("*.part"))
    return data


def files_in(folder: Path) -> list[str]:
    """Return the names of all files."""
    return [path.name for path in folder.rglob("*") if path.is_file()]


@pytest.fixture
async def notes(crm: Crm, demo: Caller, other: Caller) -> None:
    await crm.upsert(demo, "note", [{"body": TRICKY}, {"body": "plain"}])
    await crm.upsert(other, "note", [{"body": "theirs"}])


def from_csv(data: bytes) -> list[str]:
    return [row["body"] for row in csv.DictReader(io.StringIO(data.decode(), newline=""))]


def from_jsonl(data: bytes) -> list[str]:
    return [json.loads(line)["body"] for line in data.splitlines()]


def from_parquet(data: bytes) -> list[str]:
    bodies: list[str] = parquet.read_table(io.BytesIO(data)).column("body").to_pylist()
    return bodies


@pytest.mark.usefixtures("notes")
@pytest.mark.parametrize(
    ("format_", "compress", "read"),
    [
        ("csv", "none", from_csv),
        ("csv", "gzip", lambda data: from_csv(gzip.decompress(data))),
        ("jsonl", "none", from_jsonl),
        ("parquet", "zstd", from_parquet),
    ],
)
async def test_rows_come_out_as_they_are(  # noqa: PLR0917 - fixtures and parameters
    exports: Exports,
    demo: Caller,
    files: Path,
    format_: Any,
    compress: Any,
    read: Callable[[bytes], list[str]],
) -> None:
    request = ExportRequest(format_, compress, object="note")
    job = await exported(exports, demo, request)
    assert (job.state, job.rows) == ("done", 2), job.error
    assert sorted(read(content(files, job))) == [TRICKY, "plain"]  # ids of one moment have no order
    by_sql = replace(request, object=None, sql="SELECT body FROM crm.notes ORDER BY body;")
    assert read(content(files, await exported(exports, demo, by_sql))) == [TRICKY, "plain"]


async def test_parquet_keeps_types(exports: Exports, demo: Caller, crm: Crm, files: Path) -> None:
    await crm.upsert(
        demo,
        "deal",
        [{"name": "D", "amount": 1234567890123456.25 // 1, "expected_close": "2026-01-02"}],
    )
    job = await exported(exports, demo, ExportRequest("parquet", object="deal"))
    table = parquet.read_table(io.BytesIO(content(files, job)))
    found = {field.name: str(field.type) for field in table.schema}
    assert (found["amount"], found["expected_close"]) == ("decimal128(18, 2)", "date32[day]")
    assert (found["version"], found["created_at"]) == ("int32", "timestamp[us, tz=UTC]")
    assert str(table.column("amount")[0]) == "1234567890123456.00"


async def test_a_segment_is_exported_with_its_custom_properties(
    exports: Exports, demo: Caller, other: Caller, crm: Crm, files: Path
) -> None:
    await crm.upsert(demo, "property", [{"object": "contact", "name": "x_seats", "kind": "number"}])
    company = (await crm.upsert(demo, "company", [{"name": "Acme"}])).rows[0].id
    people: list[dict[str, Any]] = [
        {"last_name": "Ada", "company_id": company, "x_seats": 2.5},
        {"last_name": "Joan", "company_id": company, "country": "UK"},
        {"last_name": "Grace", "x_seats": 9},
    ]
    await crm.upsert(demo, "contact", people)
    employed = {"has": "company", "where": {"field": "name", "value": "Acme"}}
    saved = await crm.upsert(demo, "segment", [{"name": "Employed", "filter": employed}])
    segment = str(saved.rows[0].id)
    names = ("last_name", "x_seats")
    job = await exported(exports, demo, ExportRequest("csv", segment=segment, columns=names))
    assert content(files, job) == b"last_name,x_seats\nAda,2.5\nJoan,\n"
    british = {"field": "country", "value": "UK"}
    request = ExportRequest("jsonl", segment=segment, where=british)
    [person] = map(json.loads, content(files, await exported(exports, demo, request)).splitlines())
    assert (person["last_name"], person["x_seats"]) == ("Joan", None)
    whole = await exported(exports, demo, ExportRequest("parquet", object="contact"))
    content(files, whole)
    table = parquet.read_table(files / "demo" / "exports" / str(whole.file))
    assert sorted(table["x_seats"].to_pylist(), key=str) == [2.5, 9.0, None]
    with pytest.raises(NotFound, match="segment"):
        await exports.start(other, request, key=None)


async def test_masked_fields_are_hidden_and_sql_has_none_of_them(
    exports: Exports, demo: Caller, crm: Crm, files: Path
) -> None:
    await crm.upsert(demo, "contact", [{"last_name": "L", "email": "l@example.com"}])
    masked = replace(demo, masks=frozenset({"contact.email"}))
    asked = ExportRequest("csv", object="contact", columns=("email", "last_name"))
    data = content(files, await exported(exports, masked, asked)).decode()
    assert data == f"email,last_name\n{MASK},L\n"
    with pytest.raises(PermissionDenied, match="masked"):
        await exports.start(
            masked, replace(asked, where={"field": "email", "op": "not_null"}), key=None
        )
    raw = ExportRequest("csv", sql="SELECT email, last_name FROM contacts")
    assert content(files, await exported(exports, masked, raw)).decode() == "email,last_name\n,L\n"


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (ExportRequest("csv"), "one of sql, object and segment_id"),
        (ExportRequest("csv", sql="SELECT 1", object="note"), "one of sql, object and segment_id"),
        (ExportRequest("csv", sql="SELECT 1", columns=("a",)), "go with an object"),
        (ExportRequest("csv", object="note", columns=("nope",)), "no field"),
        (ExportRequest("csv", object="note", where={"nope": 1}), "filter"),
        (ExportRequest("jsonl", sql="SELECT 1 AS a, 2 AS a"), "two columns"),
        (ExportRequest("csv", sql="SELECT nope"), "42703"),
        (ExportRequest("csv", sql="SELECT $1::int"), "parameter"),
    ],
)
async def test_what_cannot_be_exported_is_refused_before_there_is_a_job(
    exports: Exports, demo: Caller, request_: ExportRequest, message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        await exports.start(demo, request_, key=None)


@pytest.mark.parametrize(
    ("more", "request_", "error"),
    [
        ({}, ExportRequest("csv", sql="SELECT g FROM generate_series(1, 11) g", max_rows=10), "more than 10 rows"),
        ({"export_mb": 1}, ExportRequest("csv", sql=ENDLESS), "larger than 1 MB"),
        ({}, ExportRequest("csv", sql="SELECT repeat('x', 2000000)"), "too large"),
        ({}, ExportRequest("csv", sql="SELECT 1 / (g - 3) FROM generate_series(1, 9) g"), "division by zero"),
        ({}, ExportRequest("parquet", sql="SELECT 'infinity'::date AS d"), "does not fit"),
    ],
)  # fmt: skip
async def test_a_job_that_fails_says_why_and_leaves_no_file(  # noqa: PLR0917 - as above
    exporting: OpenExports,
    demo: Caller,
    files: Path,
    more: dict[str, Any],
    request_: ExportRequest,
    error: str,
) -> None:
    async with exporting(**more) as exports:
        job = await exported(exports, demo, request_)
        assert job.state == "failed"
        assert error in str(job.error)
        assert exports.desk.link(job) is None
    assert await asyncio.to_thread(files_in, files) == []


async def test_a_repeated_call_finds_its_job_and_nobody_else_does(
    exports: Exports, demo: Caller, other: Caller
) -> None:
    request = ExportRequest("csv", object="note")
    first = await exports.start(demo, request, key="k")
    assert (await exports.start(demo, request, key="k")).id == first.id
    with pytest.raises(KeyReused):
        await exports.start(demo, replace(request, object="task"), key="k")
    for stranger in (other, replace(demo, subject="key:other")):
        with pytest.raises(NotFound):
            await exports.desk.status(stranger, UUID(first.id))
        with pytest.raises(NotFound):
            await exports.desk.cancel(stranger, UUID(first.id))


async def test_a_cancelled_job_ends_its_statement_and_leaves_no_file(
    exports: Exports, demo: Caller, files: Path, admin_connection: Admin
) -> None:
    job = await exports.start(demo, ExportRequest("csv", sql=ENDLESS), key=None)

    async def is_running() -> bool:
        return bool(await asyncio.to_thread(lambda: list(files.rglob("*.part"))))

    async def is_gone() -> bool:
        busy = await admin_connection.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'COPY%' AND state = 'active'"
        )
        return busy == 0 and not await is_running()

    await wait_until(is_running)
    assert (await exports.desk.cancel(demo, UUID(job.id))).state == "cancelled"
    await wait_until(is_gone)
    assert (await exports.desk.status(demo, UUID(job.id))).state == "cancelled"


async def test_a_worker_that_stops_hands_its_job_to_the_next(
    exporting: OpenExports, demo: Caller, database: Database
) -> None:
    async with exporting() as first:
        request = ExportRequest("csv", sql=f"SELECT count(*) FROM ({ENDLESS}) e, pg_class")
        job = await first.start(demo, request, key=None)

        async def is_running() -> bool:
            return (await first.desk.status(demo, UUID(job.id))).state == "running"

        await wait_until(is_running)
    async with exporting(tasks_worker=False) as idle:
        handed_back = await idle.desk.status(demo, UUID(job.id))
        assert await Depth(database).pending() == {"export": 1, "import": 0}
    assert (handed_back.state, handed_back.attempts) == ("queued", 1)
    async with exporting() as second:

        async def is_taken() -> bool:
            return (await second.desk.status(demo, UUID(job.id))).attempts == 2

        await wait_until(is_taken)
        await second.desk.cancel(demo, UUID(job.id))


async def test_a_job_whose_worker_died_is_done_by_another(
    exporting: OpenExports, demo: Caller, files: Path, admin_connection: Admin, crm: Crm
) -> None:
    await crm.upsert(demo, "note", [{"body": "b"}])
    async with exporting(tasks_worker=False) as idle:
        job = await idle.start(
            demo, ExportRequest("csv", object="note", columns=("body",)), key=None
        )
    await admin_connection.execute(
        "UPDATE store.export_jobs SET state = 'running', worker = 'dead', attempts = 1, lease_until = now()"
    )
    torn = files / "demo" / "exports" / f"{job.id}-1.csv.0.part"
    await asyncio.to_thread(torn.parent.mkdir, parents=True)
    await asyncio.to_thread(torn.write_text, "bo")
    async with exporting() as exports:
        done = await exports.desk.watch(demo, job, _silently)
    assert (done.state, done.attempts) == ("done", 2)
    assert content(files, done) == b"body\nb\n"


async def _silently(_job: Job) -> None:
    """Report to nobody."""


async def test_what_is_past_its_time_is_deleted(
    exports: Exports, demo: Caller, files: Path, admin_connection: Admin
) -> None:
    job = await exported(exports, demo, ExportRequest("csv", sql="SELECT 1 AS a"))
    await admin_connection.execute("UPDATE store.export_jobs SET expires_at = now()")

    async def is_expired() -> bool:
        return (await exports.desk.status(demo, UUID(job.id))).state == "expired"

    await wait_until(is_expired)
    assert await asyncio.to_thread(files_in, files) == []
    assert exports.desk.link(await exports.desk.status(demo, UUID(job.id))) is None


async def test_without_a_folder_there_are_no_exports(exporting: OpenExports, demo: Caller) -> None:
    async with exporting(files_dir=None) as exports:
        with pytest.raises(NotConfigured, match="no folder"):
            await exports.start(demo, ExportRequest("csv", object="note"), key=None)
    with pytest.raises(NotFound):
        await exports.desk.status(demo, uuid4())
