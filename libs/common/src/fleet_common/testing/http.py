"""A real HTTP server for a test, in the test's own event loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn

from fleet_common.mcp.protocol import Http1


@asynccontextmanager
async def serving(
    app: Any, *, port: int = 0, http: type[asyncio.Protocol] = Http1
) -> AsyncGenerator[str]:
    """Serve an ASGI app on a loopback port, a free one by default, while the block runs; yields its base URL."""
    config = uvicorn.Config(app, http=http, lifespan="on", log_config=None, access_log=False)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", port)) as sock:
        task = asyncio.create_task(server._serve(sockets=[sock]), name="test-server")  # noqa: SLF001 - serve() would take the test runner's signal handlers
        try:
            await _until_started(server, task)
            yield f"http://127.0.0.1:{sock.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task


async def _until_started(server: uvicorn.Server, task: asyncio.Task[None]) -> None:
    while not server.started:
        if task.done():
            task.result()
            raise RuntimeError("the app refused to start")
        await asyncio.sleep(0.01)
