"""A long ingest says how far it is, in either era, and survives its client as a task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fastmcp import Client
from fastmcp_tasks import call_tool_task
from pydantic import SecretStr

from fleet_aiml.rag.models import Document
from fleet_aiml.rag.progress import Progress
from fleet_aiml.server import SERVICE
from fleet_aiml.settings import AimlSettings
from fleet_common.mcp.server import create_server
from fleet_common.testing import admin

LONG = {"id": "long", "text": "\n\n".join(f"# H{n}\n\nWord{n} here." for n in range(150))}
SHORT = {"id": "short", "text": "# One\n\nWord."}


async def test_progress_counts_the_bytes_of_all_documents() -> None:
    seen: list[tuple[int, int, str]] = []

    async def report(done: int, total: int, message: str) -> None:
        seen.append((done, total, message))

    progress = Progress([Document(id="a", text="x" * 10), Document(id="b", text="é" * 10)], report)
    await progress.step(1, 1, 1)
    await progress.step(2, 1, 4)
    assert seen == [
        (10, 30, "document 1 of 2, 1 of 1 passages written"),
        (15, 30, "document 2 of 2, 1 of 4 passages written"),
    ]


@pytest.fixture(params=["auto", "legacy", "tasks"])
def client(request: pytest.FixtureRequest, tmp_path: Path, small_deps: Any) -> Client[Any]:
    """Return a client of an era; `tasks` has a Redis behind its server, too."""
    url = request.getfixturevalue("redis_url") if request.param == "tasks" else None
    settings = AimlSettings(vector_path=tmp_path, redis_url=SecretStr(url) if url else None)
    server = create_server(SERVICE, settings, open_deps=small_deps, local_principal=admin())
    return Client(server, mode="auto" if url else request.param)


@pytest.mark.parametrize("client", ["auto", "legacy"], indirect=True)
async def test_an_inline_ingest_notifies_its_client(client: Client[Any]) -> None:
    seen: list[float] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        assert total is not None
        assert message is not None
        seen.append(progress / total)

    async with client:
        arguments = {"documents": [LONG, SHORT]}
        await client.call_tool("rag_ingest", arguments, progress_handler=on_progress)
    assert len(seen) == 4, "three slices of the long one, one of the short one"
    assert seen == sorted(seen)
    assert seen[-1] == 1


@pytest.mark.parametrize("client", ["tasks"], indirect=True)
async def test_a_client_that_knows_tasks_leaves_the_ingest_to_the_worker(
    client: Client[Any],
) -> None:
    async with client:
        task = await call_tool_task(client, "rag_ingest", {"documents": [LONG, SHORT]})
        assert task.task_id.startswith("aiml.")
        assert (await task.result()).data.written == 2
        again = await client.call_tool("rag_ingest", {"documents": [LONG, SHORT]})
        assert again.data.skipped_unchanged == 2, "a second run changes nothing"
