from __future__ import annotations

import json
from typing import Any, Protocol

import httpx
import pytest
from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport

from fleet_common.testing.wire import answer, modern, text


class Fleet(Protocol):
    """What the fixture `fleet` gives (see conftest.py)."""

    url: str
    key: str
    sales_key: str

    def client(self, **headers: str) -> httpx.AsyncClient: ...


@pytest.fixture(params=["auto", "legacy"])
def era(request: pytest.FixtureRequest) -> Any:
    return request.param


def connect(fleet: Fleet, era: Any, query: str) -> Client[Any]:
    transport = StreamableHttpTransport(f"{fleet.url}/mcp?{query}", auth=fleet.key)
    return Client(transport, mode=era)


async def test_a_toolset_lists_and_calls_its_own_tools_only(fleet: Fleet, era: Any) -> None:
    async with connect(fleet, era, "tools=crm_*") as client:
        names = {tool.name for tool in await client.list_tools()}
        assert names == {"crm_echo", "crm_sleep", "fleet_whoami", "fleet_status"}
        assert (await client.call_tool("crm_echo", {"text": "x"})).data["text"] == "x"
        outside = await client.call_tool("gh_progress", {}, raise_on_error=False)
        assert text(outside).startswith("unknown_tool: ")


async def test_in_search_mode_a_tool_is_found_and_called_through_two(
    fleet: Fleet, era: Any
) -> None:
    async with connect(fleet, era, "mode=search") as client:
        names = {tool.name for tool in await client.list_tools()}
        assert names == {"fleet_whoami", "fleet_status", "fleet_find_tools", "fleet_call_tool"}
        found = await client.call_tool("fleet_find_tools", {"query": "echo", "limit": 1})
        assert found.structured_content is not None
        (best,) = found.structured_content["tools"]
        assert best["name"] == "crm_echo"
        assert best["input_schema"]["required"] == ["text"]
        call = {"name": "crm_echo", "arguments": {"text": "found"}}
        echoed = await client.call_tool("fleet_call_tool", call)
        assert echoed.structured_content == {
            "text": "found",
            "tenant": "demo",
            "credential": "internal",
        }


async def test_what_a_caller_may_not_use_is_neither_found_nor_called(
    fleet: Fleet, era: Any
) -> None:
    async with connect(fleet, era, "mode=search") as client:
        found = await client.call_tool("fleet_find_tools", {"query": "write"})
        assert found.structured_content is not None
        assert found.structured_content["tools"] == []
        call = {"name": "crm_write", "arguments": {"text": "x"}}
        refused = await client.call_tool("fleet_call_tool", call, raise_on_error=False)
        assert text(refused).startswith("unknown_tool: ")


async def test_progress_of_the_tool_inside_streams_through(fleet: Fleet, era: Any) -> None:
    seen: list[float] = []

    async def note(progress: float, _total: float | None, _message: str | None) -> None:
        seen.append(progress)

    async with connect(fleet, era, "mode=search") as client:
        await client.call_tool("fleet_call_tool", {"name": "gh_progress"}, progress_handler=note)
        own = await client.call_tool("fleet_call_tool", {"name": "fleet_status"})
    assert seen == [0, 1, 2]
    assert own.structured_content is not None
    assert own.structured_content["ready"] is True


@pytest.mark.parametrize(
    "arguments",
    [{}, {"name": 7}, {"name": "crm_echo", "arguments": [1]}, {"name": "fleet_call_tool"}, None],
)
async def test_a_call_without_a_call_inside_is_an_error_and_no_defect(
    fleet: Fleet, arguments: Any
) -> None:
    async with fleet.client() as http:
        request = modern("tools/call", "fleet_call_tool", arguments=arguments)
        response = await http.post("/mcp?mode=search", **request)
    assert response.status_code < 500
    message = answer(response)
    assert "error" in message or message["result"]["isError"]
    assert "internal" not in json.dumps(message)


async def test_a_wrong_toolset_is_a_bad_request(fleet: Fleet) -> None:
    async with fleet.client() as http:
        for method in ("tools/list", "tools/call"):
            name = "crm_echo" if method == "tools/call" else None
            response = await http.post("/mcp?mode=everything", **modern(method, name))
            assert response.status_code == 400
            assert response.json()["error"]["data"]["code"] == "invalid_input"
