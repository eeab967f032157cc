"""A gateway and two services that remember which tool ran for whom, with secrets of two tenants behind them."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fastmcp.prompts import prompt
from fastmcp.resources import resource
from fastmcp.tools import tool
from mcp_types import ToolAnnotations
from pydantic import SecretStr
from starlette.applications import Starlette

from fleet_common.auth.keys import KeyFile
from fleet_common.mcp import CurrentDeps, CurrentGrant, CurrentPrincipal, Runtime, Service, cached
from fleet_common.mcp.app import create_app
from fleet_common.policy import Grant
from fleet_common.settings import ServiceSettings
from fleet_common.testing import serving
from fleet_gateway.server import SERVICE, create_gateway
from fleet_gateway.settings import Settings

READS = ToolAnnotations(read_only_hint=True)
SHARED = ("crm_echo", "crm_kept")
OWN = {"acme": "crm_get", "globex": "crm_find"}
"""The tool that only the tenant of this name may use."""


class Memory:
    """What ran, as (tenant, tool), and what each tenant alone may see."""

    def __init__(self) -> None:
        self.ran: set[tuple[str, str]] = set()
        # A Redis that is shared with other tests knows answers of other runs.
        tenants = {name: f"{name}-{secrets.token_hex(4)}" for name in OWN}
        self.tenants = tenants
        self.secret = {tenant: secrets.token_hex(16) for tenant in tenants.values()}

    def told(self, tenant: str, name: str) -> str:
        self.ran.add((tenant, name))
        return self.secret[tenant]


def only_for_one(name: str) -> Any:
    @tool(name=name, annotations=READS)
    async def read(
        text: str = "", who: Any = CurrentPrincipal(), memory: Memory = CurrentDeps()
    ) -> str:
        """Read."""
        return memory.told(who.tenant, name)

    return read


@tool(annotations=READS)
async def crm_echo(
    text: str = "", who: Any = CurrentPrincipal(), memory: Memory = CurrentDeps()
) -> dict[str, str]:
    """Say it again."""
    return {"text": text, "secret": memory.told(who.tenant, "crm_echo")}


@cached(timedelta(minutes=1))
@tool(annotations=READS)
async def crm_kept(grant: Grant = CurrentGrant(), memory: Memory = CurrentDeps()) -> str:
    """Read what is kept for a while."""
    return memory.told(grant.principal.tenant, "crm_kept")


@tool
async def crm_write(who: Any = CurrentPrincipal(), memory: Memory = CurrentDeps()) -> str:
    """Write, which nobody may."""
    return memory.told(who.tenant, "crm_write")


@tool(annotations=READS)
async def gh_get(who: Any = CurrentPrincipal(), memory: Memory = CurrentDeps()) -> str:
    """Read of a service that nobody may use."""
    return memory.told(who.tenant, "gh_get")


@resource("crm://own/{kind}")
async def own(kind: str, who: Any = CurrentPrincipal(), memory: Memory = CurrentDeps()) -> str:
    """Read."""
    return memory.told(who.tenant, "crm_echo")


@prompt
async def review(who: Any = CurrentPrincipal(), memory: Memory = CurrentDeps()) -> str:
    """Review."""
    return memory.told(who.tenant, "crm_echo")


@dataclass
class World:
    """The gateway's app, and what is known about it.

    Attributes:
        keys: the fleet key of each tenant.
        turn: how many rounds there were.
    """

    app: Starlette
    memory: Memory
    keys: dict[str, str]
    turn: int = 0

    def may_run(self, tenant: str, name: str) -> bool:
        return name in {*SHARED, OWN[tenant.partition("-")[0]]}


def declared(memory: Memory) -> list[Service[Any, Any]]:
    @asynccontextmanager
    async def shared(_settings: ServiceSettings, _runtime: Runtime) -> AsyncGenerator[Memory]:
        yield memory

    data = (crm_echo, crm_kept, crm_write, *map(only_for_one, OWN.values()))
    parts: dict[str, dict[str, Any]] = {
        "data": {"tools": data, "resources": (own,), "prompts": (review,)},
        "devops": {"tools": (gh_get,)},
    }
    return [
        Service(
            name=name,
            version="1",
            instructions="",
            settings=ServiceSettings,
            open_deps=shared,
            **part,
        )
        for name, part in parts.items()
    ]


ROLES: dict[str, dict[str, Any]] = {
    "viewer": {"tools": [*SHARED, "fleet_*"]},
    "sales": {"tools": [OWN["acme"]], "tenants": ["acme-*"]},
    "operator": {"tools": [OWN["globex"]], "tenants": ["globex-*"]},
}
"""Both tenants' callers have all of them: whatever forgets the tenant mixes them up."""


@pytest.fixture
def policy_path(tmp_path: Path) -> Path:
    roles = {name: {"scopes": ["data:read"], **role} for name, role in ROLES.items()}
    path = tmp_path / "policy.yaml"
    path.write_text(json.dumps({"version": 1, "roles": roles}))
    return path


@pytest.fixture
async def world(
    tmp_path: Path,
    keypair: tuple[Path, Path],
    keys: KeyFile,
    policy_path: Path,
    redis_url: str,
) -> AsyncGenerator[World]:
    private, public = keypair
    memory = Memory()
    told = {"policy_file": policy_path, "redis_url": SecretStr(redis_url), "slots": 4}
    made = {
        tenant: await asyncio.to_thread(keys.create, name=name, roles=[*ROLES], tenant=tenant)
        for name, tenant in memory.tenants.items()
    }
    async with AsyncExitStack() as stack:
        urls = []
        for service in declared(memory):
            settings = ServiceSettings.model_validate(
                {
                    "keys_file": tmp_path / "no-keys.json",
                    "internal_public_key_file": public,
                    **told,
                }
            )
            app = await asyncio.to_thread(create_app, service, settings)
            urls.append(f"{service.name}={await stack.enter_async_context(serving(app))}")
        config = Settings.model_validate(
            {
                "keys_file": tmp_path / "keys.json",
                "internal_private_key_file": private,
                "services": tuple(urls),
                "allowed_hosts": ("testserver",),
                **told,
            }
        )
        gateway = await asyncio.to_thread(create_gateway, SERVICE, config)
        await stack.enter_async_context(
            serving(gateway)
        )  # for its lifespan: requests are handed to the app
        yield World(gateway, memory, {tenant: key.text for tenant, key in made.items()})
