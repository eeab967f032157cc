from __future__ import annotations

import asyncio
import json
from asyncio.subprocess import PIPE
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport
from mcp import MCPError
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from starlette.responses import Response

from fleet_common.admission import Admission
from fleet_common.audit import AuditLog
from fleet_common.auth import Principal
from fleet_common.deadline import remaining
from fleet_common.mcp import Service
from fleet_common.mcp.app import create_app
from fleet_common.mcp.gate import AdmissionGate
from fleet_common.mcp.identity import FleetToken
from fleet_common.metrics import Metrics
from fleet_common.policy import REGISTRY_ROLE
from fleet_common.settings import ServiceSettings
from fleet_common.testing import serving, wait_until
from fleet_common.testing.admission import slot
from fleet_common.testing.audit import MemorySink
from fleet_common.testing.npm import NODE
from fleet_common.testing.wire import modern

CALLS = Path(__file__).parent / "npm" / "calls.mjs"


async def left_s(headers: dict[str, str], *, wait_s: float = 0.0) -> float:
    """Return what a call finds left of its time when it has waited `wait_s` for its slot."""
    found: list[float] = []
    admission = Admission(slots=1, queue=1, metrics=Metrics("test"))

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        found.append(remaining(1000.0))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    audit = AuditLog(MemorySink(), service="test")
    gate = AdmissionGate(app, admission=admission, audit=audit, default_timeout_s=30)
    transport = httpx.ASGITransport(app=gate)
    async with httpx.AsyncClient(transport=transport, base_url="http://gate") as http:
        async with slot(admission, 1):
            waiting = asyncio.create_task(http.post("/mcp", headers=headers))
            await asyncio.sleep(wait_s)
        await waiting
    return found[0]


async def test_the_time_a_caller_names_counts_from_its_arrival() -> None:
    assert 1.5 < await left_s({"fleet-timeout-ms": "2000"}, wait_s=0.1) <= 1.95


@pytest.mark.parametrize("named", ["", "soon", "-1", "0", "9" * 12])
async def test_without_a_time_of_its_own_a_call_has_what_its_tool_allows(named: str) -> None:
    assert await left_s({"fleet-timeout-ms": named}) == 1000.0


async def test_a_registry_that_looks_at_the_lists_waits_for_nothing_and_is_no_traffic() -> None:
    metrics = Metrics("test")
    admission = Admission(slots=1, queue=0, metrics=metrics)
    audit = AuditLog(MemorySink(), service="test")
    gate = AdmissionGate(Response("rows"), admission=admission, audit=audit, default_timeout_s=30)

    async def answered(*roles: str) -> int:
        registrar = Principal("fleet-gateway", "", frozenset(roles), "internal")
        user = AuthenticatedUser(FleetToken.of(registrar, "text"))

        async def authenticated(scope: Any, receive: Any, send: Any) -> None:
            await gate({**scope, "user": user}, receive, send)

        transport = httpx.ASGITransport(app=authenticated)
        async with httpx.AsyncClient(transport=transport, base_url="http://gate") as http:
            return (await http.post("/mcp")).status_code

    async with audit.opened(), slot(admission, 1):
        assert await answered(REGISTRY_ROLE) == 200
        assert [await answered("admin"), await answered("admin", REGISTRY_ROLE)] == [503, 503]
    text, _ = await asyncio.to_thread(metrics.render)
    # Whoever holds the slot, and those who could call something.
    assert 'mcp_requests_started_total{service="test"} 3.0' in text.decode()


async def test_a_call_that_says_batch_lets_interactive_ones_pass() -> None:
    order: list[str] = []
    metrics = Metrics("test")
    admission = Admission(slots=1, queue=9, metrics=metrics)

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        order.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    audit = AuditLog(MemorySink(), service="test")
    gate = AdmissionGate(app, admission=admission, audit=audit, default_timeout_s=30)
    transport = httpx.ASGITransport(app=gate)
    async with (
        httpx.AsyncClient(transport=transport, base_url="http://gate") as http,
        asyncio.TaskGroup() as group,
        slot(admission, 1),
    ):
        group.create_task(http.post("/export", headers={"fleet-priority": "batch"}))
        await asyncio.sleep(0.05)
        group.create_task(http.post("/question"))
        await asyncio.sleep(0.05)
    assert order == ["/question", "/export"]


@dataclass
class House:
    """A service with one slot and no queue, and a call that keeps the slot."""

    url: str
    key: str
    fill: Callable[[], Awaitable[None]]
    empty: Callable[[], Awaitable[None]]


@pytest.fixture
async def house(
    service: Service[Any, Any], keys_path: Path, viewer_key: str
) -> AsyncGenerator[House]:
    settings = ServiceSettings(keys_file=keys_path, slots=1, queue=0)
    headers = {"authorization": f"Bearer {viewer_key}"}
    async with (
        serving(await asyncio.to_thread(create_app, service, settings)) as url,
        httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as http,
    ):
        staying: list[asyncio.Task[httpx.Response]] = []

        async def is_full() -> bool:
            if not staying or staying[0].done():  # somebody else had the slot at that moment
                call = http.post("/mcp", **modern("tools/call", "note_sleep", arguments={}))
                staying[:] = [asyncio.create_task(call)]
            return not await is_empty() and not staying[0].done()

        async def is_empty() -> bool:
            return 'inflight{service="data"} 0.0' in (await http.get("/metrics")).text

        async def empty() -> None:
            staying.pop().cancel()
            await wait_until(is_empty)

        yield House(f"{url}/mcp", viewer_key, lambda: wait_until(is_full), empty)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_python_client_reads_that_all_slots_are_busy_and_goes_on(
    house: House, mode: Any
) -> None:
    transport = StreamableHttpTransport(house.url, auth=house.key)
    async with Client(transport, mode=mode) as client:
        await client.call_tool("note_list")
        await house.fill()
        with pytest.raises(MCPError) as refused:
            await client.call_tool("note_list")
        await house.empty()
        assert not (await client.call_tool("note_list")).is_error
    assert refused.value.error.code == 503
    assert refused.value.error.data["retryAfterMs"] >= 1000


@pytest.mark.timeout(60)  # Node takes seconds to start where everything is busy
@pytest.mark.parametrize("era", ["modern", "handshake"])
async def test_the_typescript_client_reads_that_all_slots_are_busy_and_goes_on(
    house: House, typescript: Path, era: str
) -> None:
    words = [str(typescript), era, house.url, house.key, "note_list", "1000000"]
    process = await asyncio.create_subprocess_exec(NODE, CALLS, *words, stdout=PIPE)
    assert process.stdout is not None
    try:
        assert (await outcome(process.stdout, "ok"))["outcome"] == "ok"
        await house.fill()
        refused = await outcome(process.stdout, "refused")
        await house.empty()
        await outcome(process.stdout, "ok")
    finally:
        process.kill()
        await process.communicate()
    assert refused["status"] == 503
    assert refused["error"]["data"]["code"] == "overloaded"


async def outcome(printed: asyncio.StreamReader, wanted: str) -> dict[str, Any]:
    """Return the next call that ended so."""
    async for line in printed:
        found: dict[str, Any] = json.loads(line)
        if found["outcome"] == wanted:
            return found
    raise AssertionError(f"the client ended before a call was {wanted}")
