"""Three replicas of one service that die and come back while clients of both eras call through the gateway."""

from __future__ import annotations

import asyncio
import random
import socket
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastmcp.tools import tool
from mcp_types import ToolAnnotations

from fleet_common.auth.keys import KeyFile
from fleet_common.mcp import CurrentDeps, Runtime, Service
from fleet_common.mcp.app import create_app
from fleet_common.mcp.protocol import Http1
from fleet_common.settings import ServiceSettings
from fleet_common.testing import serving
from fleet_common.testing.wire import answer, modern
from fleet_gateway.server import SERVICE, create_gateway
from fleet_gateway.settings import Settings

LEGACY = {
    "json": {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "tools/call",
        "params": {"name": "crm_who", "arguments": {}},
    },
    "headers": {
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": "2025-11-25",
    },
}
MODERN = modern("tools/call", "crm_who", arguments={})


@tool(annotations=ToolAnnotations(read_only_hint=True))
async def crm_who(replica: str = CurrentDeps()) -> str:
    """Say who answers."""
    await asyncio.sleep(0.01)
    return replica


class Replica:
    """One server that can be killed: its connections are reset and nobody listens any more."""

    def __init__(self, name: str, public_pem: Path, folder: Path) -> None:
        self.name = name
        self._settings = ServiceSettings(
            keys_file=folder / "none.json", internal_public_key_file=public_pem
        )
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._server: uvicorn.Server | None = None
        self._task: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def _opened(self, _settings: Any, _runtime: Runtime) -> AsyncGenerator[str]:
        yield self.name

    async def start(self) -> None:
        service: Service[Any, Any] = Service(
            name="data",
            version="1",
            instructions="",
            settings=ServiceSettings,
            open_deps=self._opened,
            tools=(crm_who,),
        )
        app = await asyncio.to_thread(create_app, service, self._settings)
        config = uvicorn.Config(
            app, port=self.port, http=Http1, lifespan="on", log_config=None, access_log=False
        )
        self._server = uvicorn.Server(config)
        self._task = asyncio.create_task(self._server._serve())
        while not self._server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)

    async def kill(self) -> None:
        assert self._server is not None
        assert self._task is not None
        for listener in self._server.servers:
            listener.close()
        for connection in list(self._server.server_state.connections):
            transport = getattr(connection, "transport", None)
            if transport is not None:
                transport.abort()
        self._server.force_exit = self._server.should_exit = True
        await self._task


@asynccontextmanager
async def through_gateway(
    tmp_path: Path, private_pem: Path, replicas: list[Replica]
) -> AsyncGenerator[httpx.AsyncClient]:
    keys = KeyFile(tmp_path / "keys.json")
    key = await asyncio.to_thread(keys.create, name="v", roles=["viewer"], tenant="demo")
    settings = Settings(
        keys_file=tmp_path / "keys.json",
        internal_private_key_file=private_pem,
        services=tuple(f"data=http://127.0.0.1:{replica.port}" for replica in replicas),
    )
    async with AsyncExitStack() as stack:
        for replica in replicas:
            await replica.start()
            stack.push_async_callback(replica.kill)
        app = await asyncio.to_thread(create_gateway, SERVICE, settings)
        url = await stack.enter_async_context(serving(app))
        headers = {"authorization": f"Bearer {key.text}"}
        yield await stack.enter_async_context(httpx.AsyncClient(base_url=url, headers=headers))


@pytest.fixture
def replicas(tmp_path: Path, keypair: tuple[Path, Path]) -> list[Replica]:
    return [Replica(f"r{number}", keypair[1], tmp_path) for number in range(3)]


@pytest.mark.timeout(60)
async def test_calls_are_spread_and_none_fails_while_replicas_die_and_come_back(
    tmp_path: Path, keypair: tuple[Path, Path], replicas: list[Replica]
) -> None:
    answers: Counter[str] = Counter()

    async def call(http: httpx.AsyncClient, request: dict[str, Any], times: int = 20) -> None:
        for _ in range(times):
            response = await http.post("/mcp", **request)
            assert response.status_code == 200, response.text
            message = answer(response)
            assert "result" in message, message
            answers[message["result"]["content"][0]["text"]] += 1

    async def kill_and_restart() -> None:
        while True:
            replica = random.choice(replicas)
            await replica.kill()
            await asyncio.sleep(0.1)
            await replica.start()
            await asyncio.sleep(0.2)

    async with through_gateway(tmp_path, keypair[0], replicas) as http:
        while len(answers) < len(replicas):
            await call(http, MODERN, 1)
        before = answers.total()
        chaos = asyncio.create_task(kill_and_restart())
        try:
            async with asyncio.TaskGroup() as group:
                for request in (MODERN, LEGACY) * 4:
                    group.create_task(call(http, request))
        finally:
            chaos.cancel()
            await asyncio.gather(chaos, return_exceptions=True)
        for replica in replicas:
            if replica._task is None or replica._task.done():
                await replica.start()
    assert answers.total() - before == 160
