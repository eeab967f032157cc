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
COLUMNS = "id, version, name, pipeline, stage, status, amount, currency, expected_close, closed_at, created_at"
POINT = "SELECT 1 AS one"


class Conversation:
    """One MCP server over stdio."""

    def __init__(self, process: subprocess.Popen[bytes], tool: str, table: str) -> None:
        self._process = process
        self._tool = tool
        self._sent = 0
        self.table = table

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
    command: Sequence[str], tool: str, table: str, env: Mapping[str, str] | None = None
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
        talk = Conversation(process, tool, table)
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
                rival = conversation(command(url), "execute_sql", "store.deals")
                talks[name] = stack.enter_context(rival)
            except DID_NOT_RUN as exc:
                notes[name] = f"did not run: {exc}"
        rates = _rates(talks)
        sizes = {name: _bytes(name, talk) for name, talk in talks.items()}
    figures: dict[str, float | None] = {
        "calls_vs_postgres_mcp": _ratio(rates, "postgres_mcp"),
        "calls_vs_dbhub": _ratio(rates, "dbhub"),
        "bytes_vs_dbhub": _ratio(sizes, "dbhub"),
        "bytes_vs_postgres_mcp": _ratio(sizes, "postgres_mcp"),
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


def _bytes(name: str, talk: Conversation) -> float:
    more = {"max_rows": ROWS} if name == "ours" else {}
    answer = talk.query(
        f"SELECT {COLUMNS} FROM {talk.table}, generate_series(1, 2) ORDER BY id LIMIT {ROWS}", more
    )
    assert answer.count(b"EUR") + answer.count(b"USD") > ROWS / 2, answer[
        :300
    ]  # they are all there
    return float(len(answer))


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
    with conversation(command, "db_query", "crm.deals", env) as talk:
        yield talk


def _ratio(measured: Mapping[str, float], rival: str) -> float | None:
    return round(measured["ours"] / measured[rival], 3) if rival in measured else None


def _table(rates: Mapping[str, float], sizes: Mapping[str, float]) -> str:
    titles = {
        "ours": "**ours**, `db_query`",
        "dbhub": "DBHub 1.4.0, `execute_sql`",
        "postgres_mcp": "postgres-mcp 0.3.0, restricted, `execute_sql`",
    }
    lines = ["| over stdio | calls/s | kB of 1,000 deals × 11 |", "|---|---|---|"]
    for name, title in titles.items():
        cells = f"{rates[name]:,.0f} | {sizes[name] / 1000:,.0f}" if name in rates else "– | –"
        lines.append(f"| {title} | {cells} |")
    return "\n".join(lines)
