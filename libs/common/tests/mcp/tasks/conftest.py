"""A server and a client for tasks, on a real Valkey and a queue of the test's own."""

from __future__ import annotations

import asyncio
import runpy
import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport

from fleet_common.auth.keys import KeyFile
from fleet_common.mcp import Runtime
from fleet_common.mcp.app import create_app
from fleet_common.settings import ServiceSettings
from fleet_common.testing import serving

JOBS = Path(__file__).parent / "jobs.py"


@dataclass
class Fleet:
    """One service with tasks; its jobs are shared with the test.

    Attributes:
        runtime: of the server that was started last.
    """

    name: str
    settings: ServiceSettings
    jobs: Any
    service: Any
    runtime: Runtime | None = None

    async def key(self, role: str = "admin", *, tenant: str = "demo") -> str:
        """Return a new key."""
        return await asyncio.to_thread(
            lambda: self.keys.create(name="test", roles=[role], tenant=tenant).text
        )

    @property
    def keys(self) -> KeyFile:
        """The file the service reads."""
        assert self.settings.keys_file is not None
        return KeyFile(self.settings.keys_file)

    @asynccontextmanager
    async def serving(self, without: str = "", **changes: Any) -> AsyncGenerator[str]:
        """Serve the service, perhaps without one of its tools, and yield its URL."""
        settings = self.settings.model_copy(update=changes)
        tools = tuple(tool for tool in self.service.tools if tool.__name__ != without)
        service = replace(self.service, tools=tools)
        self.runtime = Runtime.create(self.name, "1", settings)
        app = await asyncio.to_thread(create_app, service, settings, runtime=self.runtime)
        async with serving(app) as url:
            yield url


@pytest.fixture
def fleet(redis_url: str, tmp_path: Path) -> Fleet:
    made = runpy.run_path(str(JOBS))
    name = f"jobs{secrets.token_hex(4)}"
    settings = ServiceSettings(
        redis_url=redis_url,
        keys_file=tmp_path / "keys.json",
        shutdown_grace_s=0.2,
        tasks_redelivery_s=1,
    )
    jobs = made["Jobs"]()
    return Fleet(name, settings, jobs, made["service"](name, jobs))


@pytest.fixture
async def connect() -> AsyncGenerator[Callable[..., Any]]:
    async with AsyncExitStack() as stack:

        async def client(url: str, key: str, **options: Any) -> Client[Any]:
            connection: AbstractAsyncContextManager[Client[Any]] = Client(
                StreamableHttpTransport(f"{url}/mcp", auth=key), **options
            )
            return await stack.enter_async_context(connection)

        yield client
