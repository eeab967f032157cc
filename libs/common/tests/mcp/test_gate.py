from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from fleet_common.admission import Admission
from fleet_common.audit import AuditLog
from fleet_common.deadline import remaining
from fleet_common.mcp.gate import AdmissionGate
from fleet_common.metrics import Metrics
from fleet_common.testing.audit import MemorySink


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
        async with admission.slot(1):
            waiting = asyncio.create_task(http.post("/mcp", headers=headers))
            await asyncio.sleep(wait_s)
        await waiting
    return found[0]


async def test_the_time_a_caller_names_counts_from_its_arrival() -> None:
    assert 1.5 < await left_s({"fleet-timeout-ms": "2000"}, wait_s=0.1) <= 1.95


@pytest.mark.parametrize("named", ["", "soon", "-1", "0", "9" * 12])
async def test_without_a_time_of_its_own_a_call_has_what_its_tool_allows(named: str) -> None:
    assert await left_s({"fleet-timeout-ms": named}) == 1000.0


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
        admission.slot(1),
    ):
        group.create_task(http.post("/export", headers={"fleet-priority": "batch"}))
        await asyncio.sleep(0.05)
        group.create_task(http.post("/question"))
        await asyncio.sleep(0.05)
    assert order == ["/question", "/export"]
