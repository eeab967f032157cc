from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import anyio.to_thread
import pytest
from fastmcp import FastMCP
from fastmcp.exceptions import ToolError

from fleet_cli.documents import Documents, index_documents, title_of
from fleet_cli.errors import CallFailed
from fleet_cli.state import State
from fleet_common.testing import serving

KEY = "fleet_ab12cd34_secret"


class Indexed:
    """A stand-in for the aiml service: keeps what it was told to index."""

    def __init__(self) -> None:
        self.documents: list[dict[str, Any]] = []
        self.refuses = False

    def server(self) -> FastMCP[Any]:
        server: FastMCP[Any] = FastMCP("aiml")

        @server.tool
        def rag_ingest(documents: list[dict[str, Any]]) -> int:
            if self.refuses:
                raise ToolError("overloaded: come back later")
            self.documents += documents
            return len(documents)

        return server


@pytest.fixture
def aiml() -> Indexed:
    return Indexed()


@pytest.fixture
async def url(aiml: Indexed) -> AsyncGenerator[str]:
    async with serving(aiml.server().http_app(stateless_http=True)) as base:
        yield f"{base}/mcp"


@pytest.fixture
def project(state: State) -> State:
    (state.project / "docs" / "deep").mkdir(parents=True)
    (state.project / "README.md").write_text("# Lamps\n\nWe sell lamps.\n")
    (state.project / "docs" / "deep" / "a.md").write_text("no heading")
    (state.project / "docs" / "empty.md").touch()
    (state.project / "docs" / "notes.txt").write_text("not a document")
    return state


async def index(state: State, url: str, notes: list[str] | None = None) -> int | None:
    def work() -> int | None:
        progressed = (notes if notes is not None else []).append
        return index_documents(state, url, KEY, progressed=progressed)

    return await anyio.to_thread.run_sync(work)


@pytest.mark.timeout(30)
async def test_readme_and_docs_are_indexed_with_path_and_title(
    project: State, aiml: Indexed, url: str
) -> None:
    notes: list[str] = []

    assert await index(project, url, notes) == 2

    assert [(found["uri"], found["title"]) for found in aiml.documents] == [
        ("README.md", "Lamps"),
        ("docs/deep/a.md", "docs/deep/a.md"),
    ]
    assert notes == ["0 of 2 documents"]


@pytest.mark.timeout(30)
async def test_unchanged_documents_are_not_sent_again(
    project: State, aiml: Indexed, url: str
) -> None:
    await index(project, url)

    assert await index(project, url) is None

    (project.project / "README.md").write_text("# Lamps\n\nAnd chairs.\n")
    assert await index(project, url) == 2
    assert len(aiml.documents) == 4


@pytest.mark.timeout(30)
async def test_a_vector_store_made_anew_is_filled_again(project: State, url: str) -> None:
    (project.path / "vectors").mkdir()
    await index(project, url)

    (project.path / "vectors").rename(project.path / "old")
    (project.path / "vectors").mkdir()

    assert await index(project, url) == 2


@pytest.mark.timeout(30)
async def test_a_refusal_is_told_and_tried_again_next_time(
    project: State, aiml: Indexed, url: str
) -> None:
    aiml.refuses = True
    with pytest.raises(CallFailed, match="overloaded: come back later"):
        await index(project, url)

    aiml.refuses = False

    assert await index(project, url) == 2


async def test_a_project_without_documents_has_nothing_to_index(state: State) -> None:
    nobody = "http://127.0.0.1:9/mcp"

    assert index_documents(state, nobody, KEY, progressed=print) is None


def test_many_documents_go_in_several_calls(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    for number in range(40):
        (tmp_path / "docs" / f"{number:02}.md").write_text("x" * 100)
    (tmp_path / "docs" / "40.md").write_text("x" * 500_000)

    batches = list(Documents.of(tmp_path).batches())

    assert [len(batch) for batch in batches] == [8, 8, 8, 8, 8, 1]


def test_the_title_is_the_first_heading() -> None:
    assert title_of("text\n# One\n# Two") == "One"
    assert title_of("text") is None
