"""`/<service>/mcp`, where a tool is held back: somebody has changed it without a new version of its service."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest
from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport

from fleet_common.errors import UpstreamFailed
from fleet_common.testing.wire import answer, modern, text
from fleet_gateway.routing.straight import _without

DOORS = ["/data/mcp", "/data/key/mcp", "/mcp"]


class Fleet(Protocol):
    """What the fixture `fleet` gives (see conftest.py)."""

    url: str
    sales_key: str

    def client(self, **headers: str) -> httpx.AsyncClient: ...


@pytest.fixture
def gateway_settings(tmp_path: Path) -> dict[str, Any]:
    pins = {"data": {"pinned": {"1\x1fcrm_write": "0" * 64}, "held": {}}}
    (tmp_path / "pins.json").write_text(json.dumps(pins))
    return {"pins_file": tmp_path / "pins.json"}


@pytest.mark.parametrize("era", ["auto", "legacy"])
async def test_a_held_tool_is_neither_listed_nor_callable_at_any_door(
    fleet: Fleet, era: Any
) -> None:
    for door in DOORS:
        transport = StreamableHttpTransport(f"{fleet.url}{door}", auth=fleet.sales_key)
        async with Client(transport, mode=era) as client:
            listed = {tool.name for tool in await client.list_tools()}
            assert {"crm_echo", "crm_sleep", "fleet_whoami"} <= listed, door
            assert "crm_write" not in listed, door
            called = await client.call_tool("crm_write", {"text": "x"}, raise_on_error=False)
            assert text(called).startswith("unknown_tool: "), door
            assert (await client.call_tool("crm_echo", {"text": "x"})).data["text"] == "x"
            assert [p.name for p in await client.list_prompts()] == ["pipeline_review"]


async def test_no_way_of_writing_its_name_calls_it(fleet: Fleet) -> None:
    request = modern("tools/call", "crm_write", arguments={"text": "ran"})
    request["headers"] |= {"authorization": f"Bearer {fleet.sales_key}"}
    older = ("mcp-protocol-version", "2025-11-25")
    async with httpx.AsyncClient(base_url=fleet.url) as http:
        for door in DOORS:
            for name in ("=?base64?Y3JtX3dyaXRl?=", "crm_echo", ""):
                once = [*(request["headers"] | {"mcp-name": name}).items()]
                for headers in (once, [*once, older], [older, *once]):
                    response = await http.post(door, json=request["json"], headers=headers)
                    assert "ran" not in response.text, (door, headers)


async def test_a_list_that_is_refused_says_so(fleet: Fleet) -> None:
    request = modern("tools/list", cursor=7)
    async with fleet.client() as http:
        response = await http.post("/data/mcp", **request)
    assert "error" in answer(response)


@pytest.mark.parametrize("result", [[], {"tools": None}, {"tools": {"name": "crm_write"}}])
def test_a_list_that_cannot_be_read_is_not_passed_on(result: Any) -> None:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "result": result}).encode()
    with pytest.raises(UpstreamFailed):
        _without(frozenset({"crm_write"}), 200, "application/json", body)
