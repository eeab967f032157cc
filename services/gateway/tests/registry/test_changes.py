from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack
from typing import Any, Protocol

import httpx
import pytest
from fastmcp import FastMCP
from mcp.server.subscriptions import ToolsListChanged

from fleet_common.audit import AuditLog
from fleet_common.errors import RateLimited
from fleet_common.mcp.app import mcp_transport
from fleet_common.testing import principal, serving
from fleet_common.testing.audit import MemorySink
from fleet_common.testing.wire import MODERN, answer, modern
from fleet_gateway.registry.changes import LISTEN, Changes, Listeners, is_listening


class Events(Protocol):
    """What `crm_sleep` tells."""

    started: asyncio.Event


class Fleet(Protocol):
    """What the fixture `fleet` gives (see conftest.py)."""

    events: Events
    sales_key: str

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


async def test_a_call_whose_headers_claim_to_listen_is_refused(fleet: Fleet) -> None:
    request = modern("tools/call", "crm_echo", arguments={"text": "x"})
    request["headers"]["mcp-method"] = LISTEN
    async with fleet.client() as http:
        response = await http.post("/mcp", **request)
    assert "result" not in answer(response)


async def slots_held(http: httpx.AsyncClient) -> float:
    lines = (await http.get("/metrics")).text.splitlines()
    (line,) = (line for line in lines if line.startswith("mcp_admission_inflight{"))
    return float(line.rpartition(" ")[2])


@pytest.mark.parametrize("path", ["/mcp", "/key/mcp", "/data/mcp", "/data/key/mcp"])
async def test_a_call_that_claims_to_listen_holds_a_slot(fleet: Fleet, path: str) -> None:
    request = modern("tools/call", "crm_sleep", arguments={})
    del request["json"]["params"]["_meta"]
    request["headers"] |= {"mcp-method": LISTEN, "mcp-protocol-version": "2025-11-25"}
    async with fleet.client() as http:
        call = asyncio.create_task(http.post(path, **request))
        async with asyncio.timeout(8):
            await fleet.events.started.wait()
        assert await slots_held(http) == 1
        call.cancel()
        await asyncio.wait([call])


async def test_who_listens_holds_no_slot(fleet: Fleet) -> None:
    request = modern(LISTEN, notifications={"toolsListChanged": True})
    async with (
        fleet.client() as http,
        asyncio.timeout(8),
        http.stream("POST", "/mcp", **request) as response,
    ):
        await anext(messages(response))
        assert await slots_held(http) == 0


async def test_one_caller_holds_a_share_of_the_streams_and_leaves_the_rest(fleet: Fleet) -> None:
    request = modern(LISTEN, notifications={"toolsListChanged": True})
    async with fleet.client() as http, AsyncExitStack() as streams:
        heard = []  # a generator that is dropped closes its stream
        for _ in range(16):
            listening = http.stream("POST", "/mcp", **request)
            heard.append(messages(await streams.enter_async_context(listening)))
            await anext(heard[-1])
        refused = await http.post("/mcp", **request)
        key = {"authorization": f"Bearer {fleet.sales_key}"}
        other = http.stream("POST", "/mcp", json=request["json"], headers=request["headers"] | key)
        assert (await streams.enter_async_context(other)).status_code == 200
        called = await http.post("/mcp", **modern("tools/call", "fleet_whoami", arguments={}))
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
    assert "too many open subscriptions/listen streams from you" in refused.text
    assert called.status_code == 200


async def test_a_stream_that_ends_makes_room_for_another(fleet: Fleet) -> None:
    request = modern(LISTEN, notifications={"toolsListChanged": True})
    async with fleet.client() as http:
        for _ in range(20):
            async with http.stream("POST", "/mcp", **request) as response:
                await anext(messages(response))


async def test_one_tenant_holds_half_of_the_streams() -> None:
    listeners = Listeners(AuditLog(MemorySink(), service="gateway"))
    scope: dict[str, Any] = {"path": "/mcp", "headers": []}
    with ExitStack() as held:
        for number in range(128):
            caller = principal(tenant="acme", subject=f"key:{number}")
            held.enter_context(listeners.held(caller, scope))
        with pytest.raises(RateLimited), listeners.held(principal(tenant="acme"), scope):
            pass
        held.enter_context(listeners.held(principal(tenant="other"), scope))


@pytest.mark.parametrize(
    ("path", "versions", "methods", "listens"),
    [
        ("/mcp", [MODERN], [LISTEN], True),
        ("/key/mcp", [MODERN], [LISTEN], True),
        ("/data/mcp", [MODERN], [LISTEN], False),
        ("/api/tools/crm_echo", [MODERN], [LISTEN], False),
        ("/mcp", ["2025-11-25"], [LISTEN], False),
        ("/mcp", [], [LISTEN], False),
        ("/mcp", ["2025-11-25", MODERN], [LISTEN], False),
        ("/mcp", [MODERN], ["tools/call"], False),
        ("/mcp", [MODERN], ["tools/call", LISTEN], False),
        ("/mcp", [MODERN], [], False),
    ],
)
def test_only_what_the_gateway_itself_answers_is_listening(
    path: str, versions: list[str], methods: list[str], listens: bool
) -> None:
    named = [(b"mcp-protocol-version", each.encode()) for each in versions]
    named += [(b"mcp-method", each.encode()) for each in methods]
    assert is_listening({"type": "http", "path": path, "headers": named}) is listens
