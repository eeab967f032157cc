"""Through the gateway and real sockets: whatever the policy, what a caller is shown is what it may call."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport
from fastmcp.tools import tool
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from mcp_types import ToolAnnotations

from fleet_common.auth.internal import generate_keypair
from fleet_common.auth.keys import KeyFile
from fleet_common.mcp import Runtime, Service
from fleet_common.mcp.app import create_app
from fleet_common.policy import Policy
from fleet_common.settings import ServiceSettings
from fleet_common.testing import serving, wait_until
from fleet_common.testing.wire import text
from fleet_gateway.server import SERVICE, create_gateway
from fleet_gateway.settings import Settings

TOOLS = {
    "data": {"crm_search": True, "crm_upsert": False, "db_query": True},
    "devops": {"gh_repo_get": True, "k8s_scale": False},
}
"""By service; true for a tool that only reads."""
GLOBS = ["*", "crm_*", "*_get", "db_query", "k8s_*", "fleet_*", "x"]

globs = st.lists(st.sampled_from(GLOBS), max_size=2)
scopes = st.sampled_from(["data:read", "data:write", "devops:read", "devops:write"])
roles = st.fixed_dictionaries(
    {"scopes": st.lists(scopes, unique=True)},
    optional={
        "tools": globs,
        "deny": globs,
        "tenants": st.lists(st.sampled_from(["demo", "acme"]), max_size=1),
    },
)
policies = st.lists(roles, min_size=5, max_size=5)


def a_tool(name: str, *, reads: bool) -> Any:
    async def call() -> str:
        return name

    return tool(name=name, annotations=ToolAnnotations(read_only_hint=reads))(call)


@asynccontextmanager
async def nothing(_settings: ServiceSettings, _runtime: Runtime) -> AsyncGenerator[None]:
    yield None


def small(name: str) -> Service[Any, Any]:
    return Service(
        name=name,
        version="1",
        instructions="",
        settings=ServiceSettings,
        open_deps=nothing,
        tools=tuple(a_tool(each, reads=reads) for each, reads in TOOLS[name].items()),
    )


@asynccontextmanager
async def gateway(folder: Path) -> AsyncGenerator[str]:
    """Serve two services and a gateway under the policy of the folder, and yield its URL."""
    path = folder / "policy.yaml"
    async with AsyncExitStack() as stack:
        urls = []
        for name in TOOLS:
            own = ServiceSettings(
                keys_file=folder / "none.json",
                internal_public_key_file=folder / "public.pem",
                policy_file=path,
            )
            app = await asyncio.to_thread(create_app, small(name), own)
            urls.append(f"{name}={await stack.enter_async_context(serving(app))}")
        config = Settings(
            keys_file=folder / "keys.json",
            internal_private_key_file=folder / "private.pem",
            policy_file=path,
            services=tuple(urls),
            refresh_s=0.2,
        )
        app = await asyncio.to_thread(create_gateway, SERVICE, config)
        yield await stack.enter_async_context(serving(app))


async def listed_is_callable(url: str, key: str, mode: Any) -> None:
    async with Client(StreamableHttpTransport(f"{url}/mcp", auth=key), mode=mode) as client:
        listed = {each.name for each in await client.list_tools()}
        for name in chain(*TOOLS.values()):
            result = await client.call_tool(name, raise_on_error=False)
            assert result.is_error is (name not in listed), name
            assert text(result) == name or text(result).startswith("unknown_tool: ")


async def in_both_eras(folder: Path, keys: list[str]) -> None:
    async with gateway(folder) as url, httpx.AsyncClient(base_url=url) as http:

        async def is_ready() -> bool:
            return (await http.get("/readyz")).status_code == 200

        await wait_until(is_ready)
        for key in keys:
            for mode in ("auto", "legacy"):
                await listed_is_callable(url, key, mode)


@pytest.mark.timeout(60)
@given(drawn=policies)
# Each example starts a fleet, so none is made smaller: the assertion names the tool.
@settings(
    max_examples=2,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
def test_what_is_listed_at_the_gateway_is_what_is_callable_there(drawn: list[Any]) -> None:
    roles = {f"role{number}": role for number, role in enumerate(drawn)}
    policy = Policy.model_validate({"version": 1, "roles": roles})
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name, pem in zip(("private.pem", "public.pem"), generate_keypair(), strict=True):
            (folder / name).write_bytes(pem)
        (folder / "policy.yaml").write_text(policy.model_dump_json(exclude_unset=True))
        file = KeyFile(folder / "keys.json")
        keys = [
            file.create(name=role, roles=[role], tenant="demo", policy=policy).text
            for role in roles
        ]
        asyncio.run(in_both_eras(folder, keys))
