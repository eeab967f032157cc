"""Exports and imports while their workers and PostgreSQL are killed: every job ends, with a whole file or none."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import os
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import asyncpg
import httpx
import pytest

from fleet_common.testing.wire import answer, modern

JOBS = int(os.environ.get("CHAOS_JOBS", "20"))  # of each kind
LINES = 3000  # of an imported file
ROWS = 300_000  # of an exported one: about a second of work
PATIENCE_S = 240.0
KILL_EVERY_S = 1.5
ENDED = {"done", "failed"}


class State(Protocol):
    path: Path


class Replica(Protocol):
    url: str


class Replicas(Protocol):
    """What the fixture `replicas` gives (see conftest.py)."""

    key: str
    database_url: str
    state: State

    def of(self, service: str) -> list[Any]: ...

    def lose_postgres(self) -> None: ...


class Caller:
    """A client that goes to the next replica with each attempt, and repeats what it may repeat."""

    def __init__(self, http: httpx.AsyncClient, urls: list[str], key: str) -> None:
        self._http = http
        self._urls = itertools.cycle(urls)
        self._headers = {"authorization": f"Bearer {key}"}

    async def call(self, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Return what a job is, as the tool tells it, failed ones included."""
        while True:
            found = await self._attempt(modern("tools/call", tool, arguments=arguments))
            if found is not None:
                return found
            await asyncio.sleep(0.2)

    async def _attempt(self, sent: dict[str, Any]) -> dict[str, Any] | None:
        headers = {**sent["headers"], **self._headers}
        try:
            response = await self._http.post(
                f"{next(self._urls)}/mcp", json=sent["json"], headers=headers
            )
            result = answer(response)["result"]
        except (httpx.TransportError, StopIteration, ValueError, KeyError):
            return None
        told: dict[str, Any] | None = result.get("structuredContent")
        return told if told and "job_id" in told else None

    async def fetch(self, link: str) -> bytes:
        """Return the file behind a link, from whichever replica answers."""
        path = link[link.index("/exports/") :]
        while True:
            try:
                response = await self._http.get(f"{next(self._urls)}{path}")
            except httpx.TransportError:
                continue
            if response.status_code == 200:
                return response.content
            assert response.status_code in {500, 503}, response.text
            await asyncio.sleep(0.2)


async def job(caller: Caller, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return a job once it has ended."""
    told = await caller.call(tool, arguments)
    while told["state"] not in ENDED:
        await asyncio.sleep(0.3)
        told = await caller.call("export_status", {"job_id": told["job_id"]})
    return told


def export(run: str, number: int) -> dict[str, Any]:
    sql = f"SELECT g, repeat('x', 50) AS x FROM generate_series(1, {ROWS}) g"
    return {"sql": sql, "idempotency_key": f"{run}-export-{number}"}


def contacts(run: str, number: int) -> dict[str, Any]:
    lines = "".join(f"{run}-{number}-{n}@chaos.example,N{n}\n" for n in range(LINES))
    return {
        "object": "contact",
        "content": f"email,last_name\n{lines}",
        "idempotency_key": f"{run}-import-{number}",
    }


async def stored(url: str, run: str) -> tuple[int, int]:
    """Return how many contacts of this run there are, and how many times the log says one was made."""
    connection = await asyncpg.connect(url)
    try:
        row = await connection.fetchrow(
            "SELECT count(DISTINCT c.id), count(l.id) FROM store.contacts c LEFT JOIN store.change_log l "
            "ON l.record_id = c.id AND l.before IS NULL WHERE c.email LIKE $1",
            f"{run}-%",
        )
    finally:
        await connection.close()
    assert row is not None
    return row[0], row[1]


async def test_every_job_ends_with_a_whole_file_or_none(
    replicas: Replicas,
    killing: Callable[..., AbstractContextManager[list[str]]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    run, data = uuid4().hex[:12], replicas.of("data")
    urls = [replica.url for replica in data]
    async with httpx.AsyncClient(timeout=40) as http, asyncio.timeout(PATIENCE_S):
        caller = Caller(http, urls, replicas.key)
        with killing(data, every_s=KILL_EVERY_S, seed=7) as killed:
            async with asyncio.TaskGroup() as group:
                exports = [
                    group.create_task(job(caller, "export_data", export(run, n)))
                    for n in range(JOBS)
                ]
                imports = [
                    group.create_task(job(caller, "import_data", contacts(run, n)))
                    for n in range(JOBS)
                ]
                for _ in range(2):
                    await asyncio.sleep(4)
                    await asyncio.to_thread(replicas.lose_postgres)
        files = [task.result() for task in exports]
        for told in files:
            if told["state"] == "done":
                content = await caller.fetch(told["url"])
                assert hashlib.sha256(content).hexdigest() == told["sha256"]
                assert content.count(b"\n") == told["rows"] + 1 == ROWS + 1
            else:
                assert told["error"]
                assert "url" not in told
    made = sum(told.result().get("created", 0) for told in imports)
    assert await stored(replicas.database_url, run) == (made, made)
    left = await asyncio.to_thread(lambda: list(replicas.state.path.rglob("exports/*.part")))
    assert left == []
    states = Counter(each["state"] for each in [*files, *(task.result() for task in imports)])
    with capsys.disabled():
        print(
            f"\n{2 * JOBS} jobs: {dict(states)}, killed {dict(Counter(killed))} and PostgreSQL twice"
        )
    assert states["done"] > JOBS, json.dumps(states)
