from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import AsyncGenerator
from typing import Any
from urllib.parse import urlsplit

import pytest
from fastmcp import FastMCP
from fastmcp.exceptions import ToolError
from rich.console import Console

from fleet_cli.environment import Environment
from fleet_cli.indexing import Indexing
from fleet_cli.ports import plan_ports
from fleet_cli.progress import LineProgress
from fleet_cli.secrets import Secrets, ensure_secrets
from fleet_cli.state import State
from fleet_common.testing import serving
from fleet_common.testing.waiting import wait_until

pytestmark = pytest.mark.timeout(30)


class SlowAiml:
    """A stand-in for the aiml service that embeds only when it may."""

    def __init__(self) -> None:
        self.may_go_on = threading.Event()
        self.refuses = False

    def server(self) -> FastMCP[Any]:
        server: FastMCP[Any] = FastMCP("aiml")

        @server.tool
        async def rag_ingest(documents: list[dict[str, Any]]) -> int:
            await asyncio.to_thread(self.may_go_on.wait)
            if self.refuses:
                raise ToolError("overloaded: come back later")
            return len(documents)

        return server


@pytest.fixture
def aiml() -> SlowAiml:
    return SlowAiml()


@pytest.fixture
def secrets(state: State) -> Secrets:
    return ensure_secrets(state)


@pytest.fixture
async def environment(
    state: State, secrets: Secrets, aiml: SlowAiml
) -> AsyncGenerator[Environment]:
    (state.project / "README.md").write_text("# Lamps\n\nWe sell lamps.\n")
    async with serving(aiml.server().http_app(stateless_http=True)) as url:
        ports = plan_ports(20080, {"FLEET_AIML_PORT": str(urlsplit(url).port)})
        yield Environment(state, ports, secrets, {})
        aiml.may_go_on.set()


@pytest.mark.parametrize(
    ("refuses", "told"),
    [
        (False, "Every document is indexed for rag_search."),
        (True, "The documents are not all searchable: overloaded: come back later"),
    ],
)
async def test_a_start_waits_so_long_and_the_rest_is_told_when_it_ends(
    environment: Environment, aiml: SlowAiml, refuses: bool, told: str
) -> None:
    screen = io.StringIO()
    index = Indexing(environment, LineProgress(Console(file=screen)), patience_s=0.05)
    aiml.refuses = refuses

    await asyncio.to_thread(index.run)

    assert screen.getvalue().rstrip().endswith(", the rest follows")
    assert (index.news(), index.warnings) == (None, ())

    aiml.may_go_on.set()
    news: list[str] = []

    async def has_ended() -> bool:
        news.extend(filter(None, [index.news()]))
        return bool(news)

    await wait_until(has_ended)
    assert news == [told]
    assert index.news() is None
