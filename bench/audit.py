"""CPU of one audit record: from the middleware's first look at a call to the bytes in the file, both threads together.

What is measured is what a call pays besides its own work: the digest of its arguments, the event, the chain, the
write and its share of the sync. Reads come one after the other and are synced together; writes come 64 at a time
and each waits for its two records.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path

import uvloop

from bench.report import Report
from fleet_common.audit import AuditLog, verify
from fleet_common.audit.files import lines_of, sequence
from fleet_common.audit.sinks import FileSink
from fleet_common.auth import Principal
from fleet_common.logs import configure, request_context
from fleet_common.mcp.recording import Entry

CALLS, BATCHES, WRITERS = 2000, 10, 64
KEY = b"a key of thirty-two bytes, or so"
ARGUMENTS = {"object": "contact", "query": "garcia", "limit": 20, "fields": ["name", "email"]}
WHO = Principal(
    subject="key:ab12cd34", tenant="bench", roles=frozenset({"viewer"}), scopes=None, kind="key"
)


async def read(log: AuditLog) -> None:
    entry = Entry(log, "tool", "crm_search", WHO, ARGUMENTS)
    entry.decided(allowed=True, rule="role viewer: scope data:read")
    await entry.begin()
    await entry.answered("ok")


async def write(log: AuditLog) -> None:
    entry = Entry(log, "tool", "crm_upsert", WHO, ARGUMENTS)
    entry.writes = True
    entry.decided(allowed=True, rule="role sales: scope data:write")
    await entry.begin()
    await entry.answered("ok")


async def reads(log: AuditLog) -> None:
    for _ in range(CALLS):
        await read(log)
    await log.flush()


async def writes(log: AuditLog) -> None:
    async def one_after_the_other() -> None:
        for _ in range(CALLS // WRITERS):
            await write(log)

    async with asyncio.TaskGroup() as group:
        for _ in range(WRITERS):
            group.create_task(one_after_the_other())


async def _best_us(work: Callable[[AuditLog], Awaitable[None]], log: AuditLog) -> float:
    best = float("inf")
    for _ in range(BATCHES):
        started = time.process_time()
        await work(log)
        best = min(best, time.process_time() - started)
    return best / CALLS * 1e6


async def _measure(path: Path) -> tuple[float, float]:
    log = AuditLog(FileSink(path, max_bytes=10**9), service="bench", key=KEY)
    with request_context(request_id="0123456789abcdef", trace_id="0" * 31 + "1"):
        async with log.opened():
            return await _best_us(reads, log), await _best_us(writes, log)


def run() -> Report:
    """Measure reads, writes and the check."""
    with tempfile.TemporaryDirectory() as folder, redirect_stderr(StringIO()):
        configure("INFO", "json", service="bench")
        path = Path(folder) / "audit.jsonl"
        read_us, write_us = uvloop.run(_measure(path))
        started = time.process_time()
        verdict = verify(lines_of(sequence(path)), key=KEY)
        per_second = verdict.records / (time.process_time() - started)
        assert verdict.ok, verdict.problem
    figures: dict[str, float | None] = {
        "read_us": round(read_us, 1),
        "write_us": round(write_us, 1),
        "verified_per_s": round(per_second),
    }
    table = "\n".join(
        [
            "| CPU | |",
            "|---|---|",
            f"| a read, one record | {read_us:.0f} µs |",
            f"| a write, two durable records, {WRITERS} callers at once | {write_us:.0f} µs |",
            f"| `fleet audit verify` | {per_second:,.0f} records/s |",
        ]
    )
    return Report(figures, table)
