"""Three replicas of everything, one of them killed every second: no idempotent call is lost or done twice.

`CHAOS_WRITES=10000 pytest -m chaos tests/chaos/test_replicas.py -k engines -s` is the whole proof with the engines.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import subprocess
import sys
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

CALLS = int(os.environ.get("CHAOS_CALLS", "10000"))
WRITES = int(os.environ.get("CHAOS_WRITES", "1000"))
CALLERS = 16
PATIENCE_S = float(os.environ.get("CHAOS_PATIENCE_S", "30"))  # without an answer by then it failed
PAUSE_S = 0.1
KILL_EVERY_S = 1.0
KILL_ENGINES_EVERY_S = 2.5  # PostgreSQL recovers in one
LEGACY = "2025-11-25"


class Replica(Protocol):
    url: str


class State(Protocol):
    project: Path
    audit_folder: Path


class Replicas(Protocol):
    """What the fixture `replicas` gives (see conftest.py)."""

    all: list[Replica]
    engines: list[Any]
    key: str
    database_url: str
    state: State

    def of(self, service: str) -> list[Replica]: ...


def request(era: str, arguments: dict[str, Any]) -> dict[str, Any]:
    if era != LEGACY:
        return modern("tools/call", "crm_upsert", arguments=arguments)
    params = {"name": "crm_upsert", "arguments": arguments}
    return {
        "json": {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params},
        "headers": {
            "accept": "application/json, text/event-stream",
            "mcp-protocol-version": LEGACY,
        },
    }


class Caller:
    """A client behind a load balancer: each attempt goes to the next gateway."""

    def __init__(self, gateways: list[str], key: str, era: str) -> None:
        self._next = itertools.cycle(gateways)
        self._headers = {"authorization": f"Bearer {key}"}
        self._era = era
        self.repeats: Counter[str] = Counter()

    async def upsert(self, http: httpx.AsyncClient, number: int, run: str) -> str:
        """Return the text of the answer, repeating the call while it may be repeated."""
        arguments = {
            "object": "contact",
            "records": [{"last_name": f"Chaos {number}", "email": f"{run}-{number}@chaos.example"}],
            "idempotency_key": f"{run}-{number}",
        }
        async with asyncio.timeout(PATIENCE_S):
            while True:
                found = await self._attempt(http, arguments)
                if found is not None:
                    return found
                await asyncio.sleep(PAUSE_S)

    async def _attempt(self, http: httpx.AsyncClient, arguments: dict[str, Any]) -> str | None:
        sent = request(self._era, arguments)
        try:
            response = await http.post(
                f"{next(self._next)}/mcp",
                json=sent["json"],
                headers={**sent["headers"], **self._headers},
            )
        except httpx.TransportError as exc:
            self.repeats[type(exc).__name__] += 1  # the gateway itself was killed
            return None
        if response.status_code in {429, 503}:
            assert "retry-after" in response.headers
            self.repeats[f"http {response.status_code}"] += 1
            return None
        assert response.status_code == 200, response.text
        try:
            message = answer(response)
        except (StopIteration, ValueError):  # the stream was cut in the middle
            self.repeats["cut"] += 1
            return None
        result = message["result"]
        if result.get("isError"):
            error = result["_meta"]["fleet/error"]
            assert error["retryable"], error
            self.repeats[error["code"]] += 1
            return None
        return str(result["content"])


async def drive(caller: Caller, run: str, numbers: range) -> dict[int, str]:
    """Return the answer to each of `numbers`."""
    left, answers = iter(numbers), {}
    limits = httpx.Limits(max_connections=CALLERS * 2)
    async with httpx.AsyncClient(timeout=10, limits=limits) as http, asyncio.TaskGroup() as group:

        async def work() -> None:
            for number in left:
                answers[number] = await caller.upsert(http, number, run)

        for _ in range(CALLERS):
            group.create_task(work())
    return answers


async def stored(url: str, run: str) -> tuple[int, int]:
    """Return how many contacts of this run there are, and how many addresses they have."""
    connection = await asyncpg.connect(url)
    try:
        row = await connection.fetchrow(
            "SELECT count(*), count(DISTINCT email) FROM store.contacts WHERE email LIKE $1",
            f"{run}-%",
        )
    finally:
        await connection.close()
    assert row is not None
    return row[0], row[1]


@pytest.mark.parametrize("era", ["2026-07-28", LEGACY])
async def test_no_idempotent_call_fails_while_replicas_are_killed(
    era: str,
    replicas: Replicas,
    killing: Callable[..., AbstractContextManager[list[str]]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = uuid4().hex
    caller = Caller([gateway.url for gateway in replicas.of("gateway")], replicas.key, era)

    with killing(replicas.all, every_s=KILL_EVERY_S, seed=1) as killed:
        answers = await drive(caller, run, range(CALLS))

    assert len(answers) == CALLS
    assert await stored(replicas.database_url, run) == (CALLS, CALLS)
    again = await drive(caller, run, range(0, CALLS, max(1, CALLS // 100)))
    assert again == {number: answers[number] for number in again}
    with capsys.disabled():
        print(
            f"\n{era}: {CALLS} calls, killed {dict(Counter(killed))}, repeated {dict(caller.repeats)}"
        )


async def test_no_write_is_lost_or_doubled_while_the_engines_are_killed_too(
    replicas: Replicas,
    killing: Callable[..., AbstractContextManager[list[str]]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    run, data = uuid4().hex, replicas.of("data")
    caller = Caller([replica.url for replica in data], replicas.key, "2026-07-28")

    with killing([*data, *replicas.engines], every_s=KILL_ENGINES_EVERY_S, seed=2) as killed:
        answers = await drive(caller, run, range(WRITES))

    assert len(answers) == WRITES
    assert await stored(replicas.database_url, run) == (WRITES, WRITES)
    assert await logged(replicas.database_url, run) == WRITES
    again = await drive(caller, run, range(0, WRITES, max(1, WRITES // 100)))
    assert again == {number: answers[number] for number in again}
    verified = await asyncio.to_thread(verify_audit, replicas.state.project)
    assert verified.returncode == 0, verified.stdout
    assert recorded(replicas.state.audit_folder) >= WRITES
    with capsys.disabled():
        print(
            f"\n{WRITES} writes, killed {dict(Counter(killed))}, repeated {dict(caller.repeats)}, "
            f"{verified.stdout.count('are as they were written')} audit logs whole"
        )


async def logged(url: str, run: str) -> int:
    """Return how many times the change log says that a contact of this run was made."""
    connection = await asyncpg.connect(url)
    try:
        made: int = await connection.fetchval(
            "SELECT count(*) FROM store.change_log l JOIN store.contacts c ON c.id = l.record_id "
            "WHERE l.before IS NULL AND c.email LIKE $1",
            f"{run}-%",
        )
    finally:
        await connection.close()
    return made


def verify_audit(project: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fleet_cli", "--project", str(project), "audit", "verify"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def recorded(folder: Path) -> int:
    """Return how many writes are on record as done."""
    return sum(
        record.get("outcome") == "ok" and record.get("target") == "crm_upsert"
        for log in folder.glob("data*.jsonl*")
        for record in map(json.loads, log.read_text().splitlines())
    )
