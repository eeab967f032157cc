"""export: a million rows to a file, as the service writes it, against the server's own COPY to /dev/null."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg

from fleet_data.claims import Caller, ClaimSigner
from fleet_data.crm.repository import CrmRepository
from fleet_data.crm.values import parse_value
from fleet_data.pool import Database, Limits, open_pool
from fleet_data.transfer.copying import Copier
from fleet_data.transfer.desk import Bounds, Desk
from fleet_data.transfer.folder import Folder
from fleet_data.transfer.links import Links
from fleet_data.transfer.models import ExportRequest, Progress
from fleet_data.transfer.repository import Jobs
from fleet_data.transfer.service import Exports

if TYPE_CHECKING or __name__ != "__main__":  # the child measures its memory without these
    from bench.bulk import server
    from bench.report import Report
    from fleet_data.settings import Settings

ROWS = 1_000_000
ROUNDS = 2
COLUMNS = (
    "id, version, first_name, last_name, email, phone, title, lifecycle, country, city, created_at"
)
KEY, TENANT = "a-claims-key-for-benchmarks-of-32-characters", "bench"
FILES = {
    "csv": ("csv", "none"),
    "csv_gzip": ("csv", "gzip"),
    "jsonl": ("jsonl", "none"),
    "parquet": ("parquet", "zstd"),
}
# As the superuser and without triggers: what is measured comes after.
FILL = f"""
SET session_replication_role = replica;
INSERT INTO store.contacts (tenant, id, first_name, last_name, email, phone, title, lifecycle, country, city,
    created_by, updated_by)
SELECT 'bench', gen_random_uuid(), 'First' || g % 999, 'Last name ' || g, 'somebody' || g || '@example.com',
    '+49 30 ' || 100000 + g, 'Head of Operations', 'lead', 'Germany', 'Frankfurt am Main', 'bench', 'bench'
FROM generate_series(1, {ROWS}) g;
VACUUM ANALYZE store.contacts;
"""


def run() -> Report:
    """Return how long exports take and what memory their process has at most, each in a child of its own."""
    took: dict[str, list[dict[str, float]]] = {name: [] for name in FILES}
    copies = []
    with (
        tempfile.TemporaryDirectory(prefix="bench-export-") as folder,
        server(Path(folder)) as told,
    ):
        admin = told.migrator_url.get_secret_value() if told.migrator_url else ""
        asyncio.run(_execute(admin, FILL))
        for _ in range(ROUNDS):
            copies.append(asyncio.run(_server_copy(admin)))
            for name, (format_, compress) in FILES.items():
                took[name].append(_in_a_child(told, format_, compress))
    best = {name: min(each["seconds"] for each in rounds) for name, rounds in took.items()}
    peak = {name: max(each["rss_mb"] for each in rounds) for name, rounds in took.items()}
    size = {name: rounds[0]["mb"] for name, rounds in took.items()}
    return Report(
        figures={
            "csv_vs_copy": round(best["csv"] / min(copies), 2),
            "csv_rss_mb": round(peak["csv"], 1),
            "parquet_rss_mb": round(peak["parquet"], 1),
        },
        table=_table(min(copies), best, peak, size),
        notes={"rss": "peak of a process that imports what a worker needs, without the MCP server"},
    )


async def _execute(url: str, sql: str) -> None:
    connection = await asyncpg.connect(url)
    for statement in sql.split(";\n"):
        if statement.strip():
            await connection.execute(statement)
    await connection.close()


async def _server_copy(url: str) -> float:
    started = time.perf_counter()
    await _execute(url, f"COPY (SELECT {COLUMNS} FROM store.contacts) TO '/dev/null' (FORMAT csv)")
    return time.perf_counter() - started


def _in_a_child(settings: Settings, format_: str, compress: str) -> dict[str, float]:
    urls = [url.get_secret_value() for url in (settings.reader_url, settings.database_url)]
    words = [sys.executable, "-m", "bench.export", *urls, format_, compress]
    out = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    measured: dict[str, float] = json.loads(out)
    return measured


async def _child(reader_url: str, writer_url: str, format_: Any, compress: Any) -> dict[str, float]:
    """Export as a worker does, and return how long that took and the peak of memory."""
    request = ExportRequest(format_, compress, sql=f"SELECT {COLUMNS} FROM crm.contacts")
    bounds = Bounds(ROWS, 2**31, timedelta(hours=1), timedelta(hours=1))
    with tempfile.TemporaryDirectory() as folder:
        async with open_pool(reader_url, size=2) as reader, open_pool(writer_url, size=2) as writer:
            database = Database(reader, writer, signer=ClaimSigner(KEY), limits=Limits(600, 5))
            files, jobs = Folder(Path(folder)), Jobs(database, "export")
            desk = Desk(jobs, "exports", files, Links(KEY, ""), bounds)
            exports = Exports(desk, Copier(database), CrmRepository(database, parse=parse_value))
            job = await exports.start(Caller(TENANT, "bench"), request, key=None)
            started = time.perf_counter()
            done = await exports.run(job, Progress())
            seconds = time.perf_counter() - started
    if done.rows != ROWS:
        raise RuntimeError(f"{done.rows} rows are not all")
    return {"seconds": seconds, "rss_mb": _peak_mb(), "mb": done.bytes / 2**20}


def _peak_mb() -> float:
    """Return the most memory this process has had; getrusage() would count its parent's, too."""
    told = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(told["VmHWM"].split()[0]) / 1024


def _table(
    server_s: float, best: dict[str, float], peak: dict[str, float], size: dict[str, float]
) -> str:
    lines = [
        "| a million rows of 11 columns | seconds | against the server's COPY | peak RSS, MB | file, MB |",
        "|---|---|---|---|---|",
        f"| server: COPY to /dev/null | {server_s:.2f} | 1.00 | – | – |",
    ]
    for name, (format_, compress) in FILES.items():
        title = format_ if compress == "none" else f"{format_}, {compress}"
        ratio = best[name] / server_s
        lines.append(
            f"| **ours**: {title} | {best[name]:.2f} | {ratio:.2f} | {peak[name]:.0f} | {size[name]:.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_child(*sys.argv[1:]))))
