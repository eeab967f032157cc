"""`db_query` beside the SQL tools of DBHub and postgres-mcp: calls per second, and the bytes of 1,000 rows.

All three are processes that speak MCP over stdio, driven by the same few lines, one call after the other, on the
same PostgreSQL with the same rows. Ours has everything on: key, policy, row security, time limits, audit. The rivals
connect as the superuser, which is the least work for them.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench.bulk import server
from bench.report import Report
from bench.rivals import DID_NOT_RUN
from bench.sql_rivals import dbhub, postgres_mcp
from fleet_common.auth.keys import KeyFile
from fleet_data.demo.commands import seed
from fleet_data.settings import Settings

WARM_UP, ROUNDS, ROUND_S, ROWS = 5, 3, 4.0, 1000
COLUMNS = {
    "deals": "id, version, name, pipeline, stage, status, amount, currency, expected_close, closed_at, created_at",
    "contacts": "id, version, first_name, last_name, email, phone, title, lifecycle, country, city, created_at",
    "companies": "id, version, name, domain, industry, employees, annual_revenue, country, city, website, created_at",
    "leads": "id, version, name, email, phone, title, company_name, country, source, status, created_at",
    "activities": "id, version, kind, subject, occurred_at, duration_min, deal_id, owner_id, created_at, created_by",
}
POINT = "SELECT 1 AS one"


class Conversation:
    """One MCP server over stdio."""

    def __init__(self, process: subprocess.Popen[bytes], tool: str, schema: str) -> None:
        self._process = process
        self._tool = tool
        self._sent = 0
        self.schema = schema

    def begin(self) -> None:
        """Shake hands."""
        who = {"name": "bench", "version": "1"}
        hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": who}
        self._ask("initialize", hello)
        self._write({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def query(self, sql: str, more: Mapping[str, Any] | None = None) -> bytes:
        """Return the whole line that answers one statement."""
        return self._ask(
            "tools/call", {"name": self._tool, "arguments": {"sql": sql, **(more or {})}}
        )

    def _ask(self, method: str, params: Mapping[str, Any]) -> bytes:
        self._sent += 1
        self._write({"jsonrpc": "2.0", "id": self._sent, "method": method, "params": params})
        assert self._process.stdout is not None
        while line := self._process.stdout.readline():
            answer = json.loads(line)
            if answer.get("id") == self._sent:
                assert not answer.get("result", {"isError": True}).get("isError"), line[:500]
                return line
        raise TimeoutError("the server ended")

    def _write(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self._process.stdin.flush()


@contextmanager
def conversation(
    command: Sequence[str], tool: str, schema: str, env: Mapping[str, str] | None = None
) -> Iterator[Conversation]:
    """Run a server while the block runs."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **(env or {})},
    )
    try:
        talk = Conversation(process, tool, schema)
        talk.begin()
        yield talk
    finally:
        process.kill()
        process.wait()


def run() -> Report:
    """Measure all three."""
    notes: dict[str, str] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        settings = stack.enter_context(server(folder))
        assert settings.migrator_url is not None
        url = settings.migrator_url.get_secret_value()
        talks = {"ours": stack.enter_context(_ours(folder, settings))}
        for name, command in (("dbhub", dbhub), ("postgres_mcp", postgres_mcp)):
            try:
                rival = conversation(command(url), "execute_sql", "store")
                talks[name] = stack.enter_context(rival)
            except DID_NOT_RUN as exc:
                notes[name] = f"did not run: {exc}"
        rates = _rates(talks)
        sizes = {name: _sizes(talk, _most(name)) for name, talk in talks.items()}
        sizes["json"] = _sizes(talks["ours"], {**_most("ours"), "format": "rows"})
    figures: dict[str, float | None] = {
        "calls_vs_postgres_mcp": _ratio(rates, "postgres_mcp"),
        "calls_vs_dbhub": _ratio(rates, "dbhub"),
        "bytes_vs_dbhub": _of_bytes(sizes, "ours", "dbhub", "deals"),
        "bytes_vs_postgres_mcp": _of_bytes(sizes, "ours", "postgres_mcp", "deals"),
        "json_bytes_vs_dbhub": _of_bytes(sizes, "json", "dbhub", "deals"),
    }
    return Report(figures, _table(rates, sizes), notes)


def _rates(talks: Mapping[str, Conversation]) -> dict[str, float]:
    """Return calls per second, the best of some rounds in which the contenders take turns."""
    best = dict.fromkeys(talks, 0.0)
    for talk in talks.values():
        for _ in range(WARM_UP):
            talk.query(POINT)
    for _ in range(ROUNDS):
        for name, talk in talks.items():
            began = time.perf_counter()
            calls = 0
            while time.perf_counter() < began + ROUND_S:
                talk.query(POINT)
                calls += 1
            best[name] = max(best[name], calls / (time.perf_counter() - began))
    return best


def _most(name: str) -> dict[str, Any]:
    return {"max_rows": ROWS} if name == "ours" else {}


def _sizes(talk: Conversation, more: Mapping[str, Any]) -> dict[str, int]:
    """Return the bytes of an answer with 1,000 rows of each object, as they stand on the wire."""
    sizes = {}
    for table, columns in COLUMNS.items():
        # There are fewer rows than that of some.
        source = f"{talk.schema}.{table}, generate_series(1, 5)"
        answer = talk.query(f"SELECT {columns} FROM {source} ORDER BY id LIMIT {ROWS}", more)
        assert answer.count(b"01") > ROWS, answer[:300]  # they are all there
        sizes[table] = len(answer)
    return sizes


@contextmanager
def _ours(folder: Path, settings: Settings) -> Iterator[Conversation]:
    asyncio.run(seed(settings, "demo"))
    keys = folder / "keys.json"
    key = KeyFile(keys).create(name="bench", roles=["viewer"], tenant="demo").text
    values = {
        "READER_URL": settings.reader_url.get_secret_value(),
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "CLAIMS_KEY": settings.claims_key.get_secret_value(),
        "KEYS_FILE": str(keys),
        "STDIO_KEY": key,
        "AUDIT_SINK": "file",
        "AUDIT_FILE": str(folder / "audit.jsonl"),
    }
    env = {f"FLEET_DATA_{name}": value for name, value in values.items()}
    command = [sys.executable, "-m", "fleet_data", "stdio"]
    with conversation(command, "db_query", "crm", env) as talk:
        yield talk


def _ratio(measured: Mapping[str, float], rival: str) -> float | None:
    return round(measured["ours"] / measured[rival], 3) if rival in measured else None


Sizes = Mapping[str, Mapping[str, int]]


def _of_bytes(sizes: Sizes, ours: str, rival: str, table: str) -> float | None:
    return round(sizes[ours][table] / sizes[rival][table], 3) if rival in sizes else None


def _table(rates: Mapping[str, float], sizes: Sizes) -> str:
    titles = {
        "ours": "**ours**, `db_query`",
        "json": "**ours**, `format=rows`",
        "dbhub": "DBHub 1.4.0, `execute_sql`",
        "postgres_mcp": "postgres-mcp 0.3.0, restricted, `execute_sql`",
    }
    lines = [
        f"| over stdio | calls/s | kB of 1,000 {' | '.join(COLUMNS)} |",
        f"|---|---|{'---|' * len(COLUMNS)}",
    ]
    for name, title in titles.items():
        rate = f"{rates[name]:,.0f}" if name in rates else "–"
        cells = [_cell(sizes, name, table) for table in COLUMNS]
        lines.append(f"| {title} | {rate} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(sizes: Sizes, name: str, table: str) -> str:
    """Return the kilobytes, with the part that they are of DBHub's."""
    if name not in sizes:
        return "–"
    size = f"{sizes[name][table] / 1000:,.0f}"
    part = _of_bytes(sizes, name, "dbhub", table)
    return size if part is None or name not in ("ours", "json") else f"{size} ({part:.2f})"
