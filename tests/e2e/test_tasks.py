"""A long ingest through the gateway of a running fleet: as a task for who knows tasks, inline for all others."""

from __future__ import annotations

from typing import Any, Literal, Protocol
from uuid import uuid4

import httpx
import pytest
from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport
from fastmcp_tasks import call_tool_task

from fleet_common.testing import wait_until

pytestmark = pytest.mark.blocking


class Fleet(Protocol):
    """What the fixture `fleet` gives (see conftest.py)."""

    urls: dict[str, str]
    key: str

    def http(self, service: str = "gateway", **headers: str) -> httpx.Client: ...


def connect(fleet: Fleet, era: Literal["auto", "legacy"]) -> Client[Any]:
    return Client(StreamableHttpTransport(fleet.urls["gateway"], auth=fleet.key), mode=era)


def documents(word: str, passages: int) -> dict[str, Any]:
    text = "\n\n".join(f"# Part {n}\n\nThe {word} of part {n} is {n * 7}." for n in range(passages))
    return {"documents": [{"id": word, "text": text}], "collection": "tasks"}


def aiml_metric(fleet: Fleet, name: str) -> float:
    with fleet.http("aiml") as http:
        lines = http.get("/metrics").text.splitlines()
    return float(next(line.split()[-1] for line in lines if line.startswith(f"{name}{{")))


async def test_a_long_ingest_is_a_task_with_progress_and_then_searchable(fleet: Fleet) -> None:
    word = f"w{uuid4().hex[:12]}"
    async with connect(fleet, "auto") as client:
        task = await call_tool_task(client, "rag_ingest", documents(word, 200))
        assert task.task_id.startswith("aiml.")
        assert aiml_metric(fleet, "mcp_tasks_pending") == 1

        async def has_progress() -> bool:
            said = (await task.status()).status_message
            return said is not None and said.startswith("document 1 of 1, ")

        await wait_until(has_progress, within_s=60)
        assert (await task.result()).data.written == 1
        assert aiml_metric(fleet, "mcp_tasks_pending") == 0
        found = await client.call_tool("rag_search", {"query": word, "collection": "tasks"})
        assert word in str(found.content)


async def test_an_older_client_waits_for_the_same_with_notifications(fleet: Fleet) -> None:
    seen: list[float] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        assert message is not None
        seen.append(progress / (total or 1))

    word = f"w{uuid4().hex[:12]}"
    async with connect(fleet, "legacy") as client:
        done = await client.call_tool(
            "rag_ingest", documents(word, 70), progress_handler=on_progress
        )
    assert done.structured_content is not None
    assert done.structured_content["written"] == 1
    assert seen == sorted(seen)
    assert seen[-1] == 1
