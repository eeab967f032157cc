"""Limits at every door of the gateway, and what operators have switched off."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest
from pydantic import SecretStr

from fleet_common.redis import create_redis
from fleet_common.switches import STREAM, Switchboard
from fleet_common.testing import serving, wait_until
from fleet_common.testing.upstream import status, upstream_server
from fleet_common.testing.wire import answer, modern
from fleet_gateway.server import SERVICE, create_gateway
from fleet_gateway.settings import Settings

ECHO_ONCE = {"crm_echo": {"per_minute": 1, "burst": 1}}


class Fleet(Protocol):
    """What the fixture `fleet` gives (see conftest.py)."""

    url: str
    key: str
    settings: Settings

    def client(self, **headers: str) -> httpx.AsyncClient: ...


@pytest.fixture
def gateway_settings(tmp_path: Path, redis_url: str) -> dict[str, Any]:
    path = tmp_path / "policy.yaml"
    limits = {"calls": {"per_minute": 1, "burst": 3}, "tools": ECHO_ONCE}
    role = {"scopes": ["data:read", "devops:read", "aiml:read"], "limits": limits}
    path.write_text(json.dumps({"version": 1, "roles": {"viewer": role}}))
    return {"policy_file": path, "redis_url": SecretStr(redis_url.removesuffix("/0") + "/8")}


@pytest.fixture
async def board(gateway_settings: dict[str, Any]) -> AsyncGenerator[Switchboard]:
    redis = create_redis(gateway_settings["redis_url"].get_secret_value())
    await redis.delete(STREAM)
    yield Switchboard(redis)
    await redis.delete(STREAM)
    await redis.aclose(close_connection_pool=True)


def through_mcp(door: str) -> Callable[[httpx.AsyncClient], Any]:
    request = modern("tools/call", "crm_echo", arguments={"text": "x"})
    return lambda http: http.post(door, **request)


def searched(http: httpx.AsyncClient) -> Any:
    inner = {"name": "crm_echo", "arguments": {"text": "x"}}
    return http.post("/mcp", **modern("tools/call", "fleet_call_tool", arguments=inner))


DOORS = {
    "mcp": through_mcp("/mcp"),
    "key": through_mcp("/key/mcp"),
    "service": through_mcp("/data/mcp"),
    "rest": lambda http: http.post("/api/tools/crm_echo", json={"text": "x"}),
    "rest with headers of a list": lambda http: http.post(
        "/api/tools/crm_echo",
        json={"text": "x"},
        headers={"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/list"},
    ),
    "search": searched,
}


@pytest.mark.parametrize("door", DOORS)
async def test_every_door_to_a_tool_holds_its_limit(fleet: Fleet, door: str) -> None:
    async with fleet.client() as http:
        first, second = await DOORS[door](http), await DOORS[door](http)
    assert (first.status_code, second.status_code) == (200, 429), second.text
    assert "rate_limited" in second.text
    assert int(second.headers["retry-after"]) > 1


async def test_all_doors_draw_on_one_bucket_and_each_call_costs_one(fleet: Fleet) -> None:
    big = modern("tools/call", "rag_big", arguments={"size": 1})
    async with fleet.client() as http:
        answers = [
            await searched(http),
            await http.post("/api/tools/rag_big", json={"size": 1}),
            await http.post("/aiml/mcp", **big),
            await http.post("/mcp", **big),
        ]
    assert [each.status_code for each in answers] == [200, 200, 200, 429]


async def test_a_carried_upload_costs_a_call_and_is_not_read(
    fleet: Fleet, gateway_settings: dict[str, Any]
) -> None:
    async with upstream_server() as owner:
        owner.answer("/v1/files/7", status(201), status(201), status(201), status(201))
        settings = fleet.settings.model_copy(update={"services": (f"aiml={owner.url}",)})
        app = await asyncio.to_thread(create_gateway, SERVICE, settings)
        headers = {"authorization": f"Bearer {fleet.key}"}
        async with serving(app) as url, httpx.AsyncClient(base_url=url, headers=headers) as http:
            large = b"x" * 5_000_000
            answers = [await http.put("/v1/files/7", content=large) for _ in range(4)]
    assert [each.status_code for each in answers] == [201, 201, 201, 429]


async def test_the_gateway_refuses_and_hides_what_is_switched_off(
    fleet: Fleet, board: Switchboard
) -> None:
    async def listed() -> set[str]:
        async with fleet.client() as http:
            message = answer(await http.post("/mcp", **modern("tools/list")))
        assert "result" in message, message
        return {tool["name"] for tool in message["result"]["tools"]}

    async def is_hidden() -> bool:
        return "crm_echo" not in await listed()

    async def is_refused() -> bool:
        async with fleet.client() as http:
            response = await http.post("/mcp", **modern("tools/call", "rag_big"))
        return response.status_code == 403 and "disabled" in response.text

    assert {"crm_echo", "rag_big"} <= await listed()
    await board.disable("tool", "crm_*", by="ops", reason="incident")
    await wait_until(is_hidden, every_s=0.4)  # thirty lists are allowed
    assert "rag_big" in await listed()
    await board.disable("tenant", "demo", by="ops", reason="incident")
    await wait_until(is_refused)
