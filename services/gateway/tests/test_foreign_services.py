"""Services that are not built with the fleet's own library: what they answer is not to be trusted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web
from pydantic import SecretStr

from fleet_common.auth.keys import KeyFile
from fleet_common.testing import serving
from fleet_common.testing.issuer import issuer_server
from fleet_common.testing.upstream import Upstream, status, upstream_server
from fleet_common.testing.wire import answer, modern
from fleet_gateway.routing.models import LISTS
from fleet_gateway.server import SERVICE, create_gateway
from fleet_gateway.settings import Settings

PUBLIC = "https://fleet.example"
TOOL: dict[str, Any] = {"name": "crm_get", "inputSchema": {"type": "object"}}
NEWER: dict[str, Any] = {"name": "crm_new", "inputSchema": {"type": "object"}}
SHOWN: dict[str, Any] = {"ttlMs": 1000, "tools": [TOOL]}


class Foreign:
    """`/mcp` of a service whose list of tools a test changes; `/token` of an authorization server."""

    def __init__(self, upstream: Upstream) -> None:
        self.url = upstream.url
        self.shown: Any = SHOWN
        self.token: str | None = None
        upstream.answer("/readyz", status(200, "{}"))
        upstream.answer("/mcp", self.mcp)
        upstream.answer("/token", self.exchange)

    async def mcp(self, request: web.Request) -> web.StreamResponse:
        if self.token and request.headers.get("authorization") != f"Bearer {self.token}":
            return web.Response(status=401)
        method = (await request.json())["method"]
        result = self.shown if method == "tools/list" else {LISTS[method]: []}
        return web.json_response({"jsonrpc": "2.0", "id": 1, "result": result})

    async def exchange(self, request: web.Request) -> web.StreamResponse:
        if not (await request.post())["subject_token"]:
            return web.json_response({"error": "invalid_request"}, status=400)
        return web.json_response({"access_token": self.token, "expires_in": 300})


@pytest.fixture
async def foreign() -> AsyncGenerator[Foreign]:
    async with upstream_server() as upstream:
        yield Foreign(upstream)


@pytest.fixture
def settings(foreign: Foreign, keypair: tuple[Path, Path], tmp_path: Path) -> Settings:
    return Settings(
        keys_file=tmp_path / "keys.json",
        internal_private_key_file=keypair[0],
        refresh_s=0.1,
        services=(f"data={foreign.url}",),
    )


async def listed(url: str, token: str) -> set[str]:
    headers = {"authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=url, headers=headers) as client:
        request = modern("tools/list")
        response = await client.post(
            "/mcp", json=request["json"], headers=headers | request["headers"]
        )
    return {tool["name"] for tool in answer(response)["result"]["tools"]}


async def until_listed(url: str, token: str, name: str) -> None:
    for _ in range(60):
        if name in await listed(url, token):
            return
        await asyncio.sleep(0.1)
    pytest.fail(f"{name} was never listed")


@pytest.mark.parametrize(
    "shown",
    [
        {"tools": ["a text"]},
        {"tools": [TOOL, {"description": "no name"}]},
        {"tools": [TOOL], "ttlMs": "soon"},
        None,
        {"tools": {"crm_get": TOOL}},
    ],
)
async def test_a_malformed_list_leaves_the_last_good_one_until_the_service_recovers(
    foreign: Foreign,
    settings: Settings,
    keys: KeyFile,
    shown: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:
    key = (await asyncio.to_thread(keys.create, name="v", roles=["admin"], tenant="demo")).text
    async with serving(await asyncio.to_thread(create_gateway, SERVICE, settings)) as url:
        await until_listed(url, key, "crm_get")
        foreign.shown = shown
        await asyncio.sleep(0.3)
        assert "crm_get" in await listed(url, key)
        said = capsys.readouterr().err
        assert "service_lost" in said
        assert "UpstreamFailed" in said
        foreign.shown = {**SHOWN, "tools": [TOOL, NEWER]}
        await until_listed(url, key, "crm_new")


async def test_a_list_that_is_malformed_for_one_caller_leaves_the_gateway_serving(
    foreign: Foreign, settings: Settings, keys: KeyFile, capsys: pytest.CaptureFixture[str]
) -> None:
    made = await asyncio.to_thread(keys.create, name="v", roles=["admin"], tenant="demo")
    slow = settings.model_copy(update={"refresh_s": 60.0})
    async with serving(await asyncio.to_thread(create_gateway, SERVICE, slow)) as url:
        foreign.shown = {"tools": ["a text"]}
        assert "crm_get" not in await listed(url, made.text)
        assert "list_incomplete" in capsys.readouterr().err
        foreign.shown = SHOWN
        await until_listed(url, made.text, "crm_get")


async def test_an_oauth_caller_is_shown_the_services_tools_where_tokens_are_exchanged(
    foreign: Foreign, settings: Settings
) -> None:
    foreign.token = "for-the-service-alone"
    async with issuer_server() as issuer:
        exchanging = settings.model_copy(
            update={
                "oauth_issuer": issuer.url,
                "public_url": PUBLIC,
                "exchange_url": f"{foreign.url}/token",
                "exchange_client_secret": SecretStr("s3cret"),
            }
        )
        token = issuer.token(aud=f"{PUBLIC}/mcp", roles=["admin"])
        async with serving(await asyncio.to_thread(create_gateway, SERVICE, exchanging)) as url:
            assert "crm_get" in await listed(url, token)
