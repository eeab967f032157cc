"""CPU of a call that is turned away because all slots are taken and the queue is full, in process.

`shed` is the gate's own part: the caller is known, the answer is made and the refusal audited. `shed_all` is the
same call through all layers of an app.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import uvloop
from fastmcp.tools import tool
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp_types import ToolAnnotations

from bench.inprocess import exchange, modern_call, scope_of, service_of
from fleet_common.admission import Admission
from fleet_common.audit import create_audit
from fleet_common.auth import Principal
from fleet_common.auth.keys import KeyFile
from fleet_common.logs import configure
from fleet_common.mcp.app import create_app
from fleet_common.mcp.gate import AdmissionGate
from fleet_common.mcp.identity import FleetToken
from fleet_common.metrics import Metrics
from fleet_common.settings import ServiceSettings

BATCHES, CALLS = 20, 1000
Shed = Callable[[], Awaitable[None]]


def measure() -> dict[str, float]:
    """Return the CPU of one shed call in ms, of the gate (`shed`) and of all layers (`shed_all`)."""
    configure("ERROR", "json", service="bench")
    with tempfile.TemporaryDirectory() as folder:
        settings = ServiceSettings(
            keys_file=Path(folder) / "keys.json",
            audit_sink="file",
            audit_file=Path(folder) / "audit.jsonl",
            slots=1,
            queue=1,
            queue_wait_s=60,
            default_timeout_s=600,
        )
        return {
            "shed": uvloop.run(_best(_gate(settings))),
            "shed_all": uvloop.run(_best(_layers(settings))),
        }


async def _best(full: AbstractAsyncContextManager[Shed]) -> float:
    best = float("inf")
    async with full as shed:
        for _ in range(BATCHES):
            began = time.process_time()
            for _ in range(CALLS):
                await shed()
            best = min(best, (time.process_time() - began) / CALLS * 1000)
    return best


@asynccontextmanager
async def _gate(settings: ServiceSettings) -> AsyncGenerator[Shed]:
    caller = Principal(subject="key:1", tenant="bench", roles=frozenset({"viewer"}), kind="key")
    user = AuthenticatedUser(FleetToken.of(caller, ""))
    audit = create_audit("bench", settings)
    gate = AdmissionGate(
        _work_on,
        admission=Admission(
            slots=settings.slots, queue=settings.queue, metrics=Metrics("bench", "1")
        ),
        audit=audit,
        default_timeout_s=settings.default_timeout_s,
    )
    headers, body = modern_call("work_on")
    async with (
        audit.opened(),
        _filled(lambda: exchange(gate, {**scope_of(headers), "user": user}, body)) as shed,
    ):
        yield shed


@asynccontextmanager
async def _layers(settings: ServiceSettings) -> AsyncGenerator[Shed]:
    keys = KeyFile(Path(str(settings.keys_file)))
    key = keys.create(name="bench", roles=["viewer"], tenant="bench").text
    service = service_of(work_on)
    app = create_app(service, settings)
    headers, body = modern_call("work_on", key)
    async with (
        app.router.lifespan_context(app),
        _filled(lambda: exchange(app, scope_of(headers), body)) as shed,
    ):
        yield shed


@asynccontextmanager
async def _filled(call: Callable[[], Awaitable[bytes]]) -> AsyncGenerator[Shed]:
    """Take the slot and the place in the queue while the block runs; yield a call that is then shed."""

    async def shed() -> None:
        answered = await call()
        assert b"all slots are busy" in answered, answered

    async with asyncio.TaskGroup() as group:
        staying = [group.create_task(_swallow(call)) for _ in range(2)]
        await asyncio.sleep(1)
        yield shed
        for task in staying:
            task.cancel()


async def _swallow(call: Callable[[], Awaitable[bytes]]) -> None:
    await call()


async def _work_on(*_: Any) -> None:
    await asyncio.Event().wait()


@tool(annotations=ToolAnnotations(read_only_hint=True))
async def work_on(text: str) -> str:
    """Keep the slot."""
    await asyncio.Event().wait()
    return text
