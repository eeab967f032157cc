from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, Protocol

import httpx
from fastmcp import FastMCP
from mcp.server.subscriptions import ToolsListChanged

from fleet_common.mcp.app import mcp_transport
from fleet_common.testing import serving
from fleet_common.testing.wire import answer, modern
from fleet_gateway.registry.changes import Changes


class Fleet(Protocol):
    """What the fixture `fleet` gives (see conftest.py)."""

    def client(self, **headers: str) -> httpx.AsyncClient: ...


async def messages(response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    async for line in response.aiter_lines():
        if line.startswith("data: {"):
            yield json.loads(line[6:])


async def test_a_client_that_listens_hears_of_a_change_it_asked_for() -> None:
    server: FastMCP[Any] = FastMCP("gateway")
    changes = Changes()
    changes.serve_on(server)
    request = modern("subscriptions/listen", notifications={"toolsListChanged": True})
    async with (
        serving(mcp_transport(server)) as url,
        httpx.AsyncClient(base_url=url) as http,
        asyncio.timeout(8),
        http.stream("POST", "/mcp", **request) as response,
    ):
        heard = messages(response)
        first = await anext(heard)
        assert first["method"] == "notifications/subscriptions/acknowledged"
        assert first["params"]["notifications"] == {"toolsListChanged": True}
        for change in (changes.tell, changes.tell):
            change()
            assert (await anext(heard))["method"] == "notifications/tools/list_changed"
        await changes.publish(ToolsListChanged())
        assert (await anext(heard))["method"] == "notifications/tools/list_changed"
    changes.tell()


async def test_discovery_says_that_lists_may_change(fleet: Fleet) -> None:
    async with fleet.client() as http:
        found = answer(await http.post("/mcp", **modern("server/discover")))["result"]
    assert found["capabilities"]["tools"]["listChanged"] is True


async def test_a_call_that_claims_to_listen_is_refused(fleet: Fleet) -> None:
    request = modern("tools/call", "crm_echo", arguments={"text": "x"})
    for version in ("2026-07-28", "2025-11-25"):
        request["headers"] |= {
            "mcp-method": "subscriptions/listen",
            "mcp-protocol-version": version,
        }
        async with fleet.client() as http:
            response = await http.post("/mcp", **request)
        assert "result" not in answer(response) or answer(response)["result"]["isError"]
