"""Training as a task in a real Valkey: whoever works on it is killed, another one goes on, and one model is stored."""

from __future__ import annotations

import asyncio
import itertools
import subprocess
import sys
from typing import Any, Protocol

import asyncpg
import httpx
import pytest
from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport
from fastmcp_tasks import call_tool_task

from fleet_common.testing import wait_until
from fleet_common.testing.wire import about_task, answer

TAKEN_UP_S = 240.0
MODELS = (
    "SELECT count(*), count(task), bool_and(is_active) FROM store.lead_models WHERE tenant = 'demo'"
)


class Replica(Protocol):
    url: str

    def kill_and_restart(self) -> None: ...


class Replicas(Protocol):
    """What the fixture `replicas` gives (see conftest.py)."""

    key: str
    database_url: str
    environment: Any

    def of(self, service: str) -> list[Replica]: ...


@pytest.fixture
def learnable(replicas: Replicas) -> Replicas:
    """The fleet with the demo data, whose leads have outcomes."""
    subprocess.run(
        [sys.executable, "-m", "fleet_data", "seed", "demo"],
        env=replicas.environment.for_migration(),
        check=True,
        timeout=300,
    )
    return replicas


async def models(url: str) -> tuple[Any, ...]:
    connection = await asyncpg.connect(url)
    try:
        row = await connection.fetchrow(MODELS)
    finally:
        await connection.close()
    assert row is not None
    return tuple(row)


class Poller:
    """Asks about one task, from whichever replica answers."""

    def __init__(self, http: httpx.AsyncClient, urls: list[str], task: str) -> None:
        self._http = http
        self._urls = itertools.cycle(urls)
        self._request = about_task("tasks/get", task)
        self.unanswered = 0

    async def told(self) -> dict[str, Any]:
        """Return how the task stands."""
        while True:
            try:
                reply = await self._http.post(f"{next(self._urls)}/mcp", **self._request)
                result: dict[str, Any] = answer(reply)["result"]
            except (httpx.TransportError, StopIteration, ValueError, KeyError):
                self.unanswered += 1
                await asyncio.sleep(0.2)
            else:
                return result

    async def is_under_way(self) -> bool:
        return "judging" in (await self.told()).get("statusMessage", "")

    async def has_ended(self) -> bool:
        return bool((await self.told())["status"] != "working")


async def test_training_goes_on_elsewhere_and_stores_one_model(
    learnable: Replicas, capsys: pytest.CaptureFixture[str]
) -> None:
    data = learnable.of("data")
    transport = StreamableHttpTransport(f"{data[0].url}/mcp", auth=learnable.key)
    async with Client(transport) as client:
        task = await call_tool_task(client, "lead_model", {"action": "train"})
    headers = {"authorization": f"Bearer {learnable.key}"}
    async with httpx.AsyncClient(headers=headers, timeout=30) as http:
        poller = Poller(http, [replica.url for replica in data], task.task_id)
        await wait_until(poller.is_under_way, within_s=TAKEN_UP_S)
        for replica in reversed(data):  # whichever of them it is that trains
            await asyncio.to_thread(replica.kill_and_restart)
        await wait_until(poller.has_ended, within_s=TAKEN_UP_S)
        told = await poller.told()
    assert told["status"] == "completed", told
    assert await models(learnable.database_url) == (1, 1, True)
    with capsys.disabled():
        said = told["result"]["content"][0]["text"]
        print(f"\n{said}, unanswered while killed: {poller.unanswered}")
