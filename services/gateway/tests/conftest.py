"""A gateway in front of three small real services, all on real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastmcp import Context
from fastmcp.prompts import prompt
from fastmcp.resources import resource
from fastmcp.tools import tool
from mcp_types import ToolAnnotations
from pydantic import SecretStr

from fleet_common.auth import Principal
from fleet_common.auth.internal import generate_keypair
from fleet_common.auth.keys import KeyFile
from fleet_common.mcp import Completing, CurrentDeps, CurrentPrincipal, Runtime, Service
from fleet_common.mcp.app import create_app
from fleet_common.settings import ServiceSettings
from fleet_common.testing import serving, wait_until
from fleet_gateway.server import SERVICE, create_gateway
from fleet_gateway.settings import Settings

READS = ToolAnnotations(read_only_hint=True)


@dataclass
class Events:
    started: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    may_end: asyncio.Event = field(default_factory=asyncio.Event)


@tool(annotations=READS)
async def crm_echo(text: str, principal: Principal = CurrentPrincipal()) -> dict[str, str]:
    """Echo."""
    return {"text": text, "tenant": principal.tenant, "credential": principal.kind}


@tool
async def crm_write(text: str) -> str:
    """Write."""
    return text


@tool(annotations=READS)
async def crm_sleep(events: Events = CurrentDeps()) -> str:
    """Sleep."""
    events.started.set()
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        events.cancelled.set()
        raise
    return ""


@tool(annotations=READS)
async def gh_progress(ctx: Context) -> str:
    """Report progress."""
    for step in range(3):
        await ctx.report_progress(step, 3)
    return "done"


@tool(annotations=READS)
async def rag_big(size: int) -> str:
    """Return a large text."""
    return "x" * size


@tool(annotations=READS, task=True)
async def rag_slow(events: Events = CurrentDeps()) -> str:
    """Run as a task, until the test says so."""
    events.started.set()
    await events.may_end.wait()
    return "done"


@resource("crm://schema/{kind}")
async def crm_schema(kind: str) -> str:
    """Describe."""
    return f"schema of {kind}"


@prompt
async def pipeline_review() -> str:
    """Review."""
    return "Review the pipeline."


async def complete(_asked: Completing[Events]) -> list[str]:
    return ["contact", "company"]


@asynccontextmanager
async def open_events(_settings: ServiceSettings, _runtime: Runtime) -> AsyncGenerator[Events]:
    yield Events()


def small(name: str, *tools: Any, **more: Any) -> Service[Any, Any]:
    return Service(
        name=name,
        version="1",
        instructions="",
        settings=ServiceSettings,
        open_deps=open_events,
        tools=tools,
        **more,
    )


@dataclass
class Fleet:
    """Where the gateway listens, and how to stop one service."""

    url: str
    key: str
    sales_key: str
    services: dict[str, AsyncExitStack]
    events: Events
    settings: Settings
    urls: dict[str, str]

    def client(self, **headers: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=self.url,
            headers={"authorization": f"Bearer {self.key}", **headers},
            timeout=9,
        )

    async def is_ready(self) -> bool:
        """Whether the gateway knows what every service offers."""
        async with self.client() as http:
            return (await http.get("/readyz")).status_code == 200


@pytest.fixture
def keypair(tmp_path: Path) -> tuple[Path, Path]:
    paths = tmp_path / "private.pem", tmp_path / "public.pem"
    for path, pem in zip(paths, generate_keypair(), strict=True):
        path.write_bytes(pem)
    return paths


@pytest.fixture
def keys(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "keys.json")


@pytest.fixture
def services_redis() -> str | None:
    """The Redis of the services; tests of what needs one replace it."""
    return None


@pytest.fixture
def gateway_settings() -> dict[str, Any]:
    """What a test module tells its gateway besides; replace it there."""
    return {}


@pytest.fixture
async def fleet(
    tmp_path: Path,
    keypair: tuple[Path, Path],
    keys: KeyFile,
    services_redis: str | None,
    gateway_settings: dict[str, Any],
) -> AsyncGenerator[Fleet]:
    private, public = keypair
    events = Events()

    @asynccontextmanager
    async def shared(_settings: Any, _runtime: Any) -> AsyncGenerator[Events]:
        yield events

    declared = [
        small("data", crm_echo, crm_write, crm_sleep, resources=(crm_schema,),
              prompts=(pipeline_review,), complete=complete),
        small("devops", gh_progress),
        small("aiml", rag_big, *([rag_slow] if services_redis else [])),
    ]  # fmt: skip
    keys_file = tmp_path / "keys.json"
    key = await asyncio.to_thread(keys.create, name="v", roles=["viewer"], tenant="demo")
    sales = await asyncio.to_thread(keys.create, name="s", roles=["sales"], tenant="demo")
    empty = tmp_path / "no-keys.json"  # the services take internal tokens only
    async with AsyncExitStack() as stack:
        urls: dict[str, str] = {}
        services = {}
        for service in declared:
            one = Service(**{**vars(service), "open_deps": shared})
            settings = ServiceSettings(
                keys_file=empty,
                internal_public_key_file=public,
                allowed_hosts=(f"{service.name}:80",),
                redis_url=SecretStr(services_redis) if services_redis else None,
            )
            services[service.name] = await stack.enter_async_context(AsyncExitStack())
            app = await asyncio.to_thread(create_app, one, settings)
            urls[service.name] = await services[service.name].enter_async_context(serving(app))
        config = Settings(
            keys_file=keys_file,
            internal_private_key_file=private,
            refresh_s=0.2,
            **{"services": tuple(f"{name}={url}" for name, url in urls.items())} | gateway_settings,
        )
        app = await asyncio.to_thread(create_gateway, SERVICE, config)
        url = await stack.enter_async_context(serving(app))
        running = Fleet(url, key.text, sales.text, services, events, config, urls)
        await wait_until(running.is_ready)
        yield running
