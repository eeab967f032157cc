"""Calling a tool of a real MCP server over HTTP, and what is said when that does not work."""

from __future__ import annotations

import http.server
import socket
import threading
from collections.abc import Iterator

import anyio
import pytest
import uvicorn
from fastmcp import FastMCP
from fastmcp.exceptions import ToolError

from fleet_cli.calling import call_tool, refuses, text_of
from fleet_cli.engines.freeport import free_port
from fleet_cli.errors import CallFailed


@pytest.fixture(scope="module")
def server_url() -> Iterator[str]:
    """A small server with a tool that answers, one that refuses and one that takes its time."""
    mcp: FastMCP = FastMCP("small")

    @mcp.tool
    def greet(name: str) -> str:
        return f"Hello {name}"

    @mcp.tool
    def refuse() -> str:
        raise ToolError("conflict: not today")

    @mcp.tool
    async def dawdle() -> str:
        await anyio.sleep(5)
        return "late"

    port = free_port()
    config = uvicorn.Config(
        mcp.http_app(stateless_http=True), port=port, log_level="error", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    yield f"http://127.0.0.1:{port}/mcp"
    server.should_exit = True
    thread.join()


@pytest.fixture
def closed_url() -> Iterator[str]:
    """A server that knows no key."""

    class Closed(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length") or 0))
            self.send_response(401)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_request(self, code: object = "-", size: object = "-") -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Closed) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/mcp"
        server.shutdown()
        thread.join()


async def test_a_tools_answer_comes_back(server_url: str) -> None:
    result = await call_tool(server_url, "key", "greet", {"name": "Ada"}, timeout_s=5)

    assert not result.is_error
    assert text_of(result) == "Hello Ada"


async def test_a_tools_refusal_is_a_result_not_a_failure(server_url: str) -> None:
    result = await call_tool(server_url, "key", "refuse", {}, timeout_s=5)

    assert result.is_error
    assert text_of(result) == "conflict: not today"


async def test_a_tool_that_takes_too_long_is_a_sentence(server_url: str) -> None:
    with pytest.raises(CallFailed, match=r"did not answer within 0\.5 s"):
        await call_tool(server_url, "key", "dawdle", {}, timeout_s=0.5)


async def test_a_server_that_takes_the_connection_and_says_nothing_is_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/mcp"

        with pytest.raises(CallFailed, match=r"did not answer within 0\.5 s"):
            await call_tool(url, "key", "greet", {}, timeout_s=0.5)


async def test_nobody_listening_points_to_fleet_run() -> None:
    with pytest.raises(CallFailed, match=r"could not be reached[\s\S]*`fleet run` starts it"):
        await call_tool(f"http://127.0.0.1:{free_port()}/mcp", "key", "greet", {}, timeout_s=5)


async def test_a_refused_key_points_to_the_keys(closed_url: str) -> None:
    with pytest.raises(CallFailed, match=r"refused the key[\s\S]*`fleet key list`"):
        await call_tool(closed_url, "wrong", "greet", {}, timeout_s=5)


def test_a_server_that_is_gone_refuses_no_key() -> None:
    assert not refuses(f"http://127.0.0.1:{free_port()}/mcp", "key")
