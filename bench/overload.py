"""Five times more calls than a service can serve: what is still answered in time, with admission and without.

The service is a real process: its tool holds one of eight connections of a pool for 200 ms. What it serves to as many
callers as it has slots is measured first and is its capacity. Then calls come at random (Poisson) from three tenants,
one of which sends nine calls of ten; a caller wants its answer within 800 ms. Goodput is what was answered in that
time, as a part of the capacity.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import uvicorn
from fastmcp import FastMCP
from fastmcp.tools import tool
from mcp_types import ToolAnnotations

from bench.inprocess import service_of
from bench.processes import free_port, served
from bench.report import Report
from fleet_common.auth.keys import KeyFile
from fleet_common.logs import configure
from fleet_common.mcp.app import create_app
from fleet_common.mcp.fixed import skip_hidden_list
from fleet_common.settings import ServiceSettings
from fleet_common.testing.wire import modern

POOL = 8
SLOTS = 10  # a little more than the pool, so that it is never idle while an answer is on its way
HOLD_S = 0.2
SLO_S = 0.8
WAIT_S = 0.4  # what the SLO leaves for waiting
OVERLOAD = 5
SECONDS = 20.0
CAPACITY_S = 5.0
SETTLE_S = 2.0  # not counted: the mean time in a slot is not known yet
TENANTS = {"flood": 0.9, "small": 0.05, "tiny": 0.05}


@dataclass(frozen=True, slots=True)
class Seen:
    """One call as its caller saw it."""

    tenant: str
    arrived: float
    seconds: float
    status: int
    has_retry_after: bool

    @property
    def is_good(self) -> bool:
        """Whether it was answered in time."""
        return self.status == 200 and self.seconds <= SLO_S


def work_tool() -> Any:
    """Return the tool: it holds a connection of a pool for a while."""
    pool = asyncio.Semaphore(POOL)

    @tool(annotations=ToolAnnotations(read_only_hint=True))
    async def work() -> str:
        """Hold a connection."""
        async with pool:
            await asyncio.sleep(HOLD_S)
        return "done"

    return work


def serve(kind: str, port: int, keys: Path) -> None:
    """Serve the tool with our stack, or with FastMCP alone."""
    configure("ERROR", "json", service="bench")
    if kind == "ours":
        service = service_of(work_tool())
        settings = ServiceSettings(
            keys_file=keys,
            slots=SLOTS,
            queue=64,
            queue_wait_s=WAIT_S,
            audit_sink="file",
            audit_file=keys.with_name("audit.jsonl"),
        )
        app = create_app(service, settings)
    else:
        server: FastMCP[Any] = FastMCP("bare")
        skip_hidden_list(server, [server.add_tool(work_tool())])
        app = server.http_app(stateless_http=True)
    uvicorn.run(app, port=port, http="h11", log_level="error")


def run() -> Report:
    """Overload both, one after the other."""
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder) / "keys.json"
        key_of = {
            tenant: KeyFile(keys).create(name=tenant, roles=["viewer"], tenant=tenant).text
            for tenant in TENANTS
        }
        seen = {}
        with _serving("ours", keys) as url:
            capacity = asyncio.run(_capacity(url, key_of["small"]))
            seen["ours"] = asyncio.run(_drive(url, key_of, capacity))
        with _serving("bare", keys) as url:
            seen["bare"] = asyncio.run(_drive(url, key_of, capacity))
    ours = seen["ours"]
    sheds = [call for call in ours if call.status != 200]
    figures: dict[str, float | None] = {
        "goodput": round(_goodput(ours, capacity), 3),
        "within_slo": round(_within_slo(ours), 4),
        "retry_after": round(sum(call.has_retry_after for call in sheds) / len(sheds), 3),
        "bare_goodput": round(_goodput(seen["bare"], capacity), 3),
    }
    return Report(figures, _table(seen, capacity))


@contextmanager
def _serving(kind: str, keys: Path) -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "bench.overload", kind, str(port), str(keys)]
    with served(command, port=port) as server:
        yield f"{server.url}/mcp"


async def _capacity(url: str, key: str) -> float:
    """Return the calls per second that as many callers as there are slots get answered."""
    request = modern("tools/call", "work", arguments={})
    headers = {**request["headers"], "authorization": f"Bearer {key}"}
    answered = 0
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        ends = time.monotonic() + CAPACITY_S

        async def repeat() -> None:
            nonlocal answered
            while time.monotonic() < ends:
                async with session.post(url, json=request["json"], headers=headers) as response:
                    await response.read()
                    answered += response.status == 200

        for _ in range(SLOTS):
            group.create_task(repeat())
    return answered / CAPACITY_S


async def _drive(url: str, key_of: dict[str, str], capacity: float) -> list[Seen]:
    """Send calls at random times, whatever becomes of the earlier ones."""
    dice, seen = random.Random(1), []
    rate = OVERLOAD * capacity
    request = modern("tools/call", "work", arguments={})
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=5)
    async with (
        aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
        asyncio.TaskGroup() as group,
    ):

        async def call(tenant: str) -> None:
            headers = {**request["headers"], "authorization": f"Bearer {key_of[tenant]}"}
            arrived = time.monotonic()
            status, retry = 0, False
            try:
                async with session.post(url, json=request["json"], headers=headers) as response:
                    await response.read()
                    status, retry = response.status, "retry-after" in response.headers
            except (aiohttp.ClientError, TimeoutError):
                pass  # it counts as unanswered
            seen.append(Seen(tenant, arrived, time.monotonic() - arrived, status, retry))

        began = time.monotonic()
        due = began
        while due < began + SECONDS:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            (tenant,) = dice.choices([*TENANTS], [*TENANTS.values()])
            group.create_task(call(tenant))
            due += dice.expovariate(rate)
    return [call for call in seen if call.arrived > began + SETTLE_S]


def _goodput(seen: list[Seen], capacity: float) -> float:
    return sum(call.is_good for call in seen) / (capacity * (SECONDS - SETTLE_S))


def _within_slo(seen: list[Seen]) -> float:
    accepted = [call for call in seen if call.status == 200]
    return sum(call.is_good for call in accepted) / max(1, len(accepted))


def _table(seen: dict[str, list[Seen]], capacity: float) -> str:
    titles = {"ours": "**ours**: 10 slots, a queue of 400 ms", "bare": "FastMCP without admission"}
    lines = [
        (
            f"| at 5x the capacity of {capacity:.0f} calls/s | goodput | accepted within 800 ms "
            "| of the small tenants' calls answered in time |"
        ),
        "|---|---|---|---|",
    ]
    for kind, calls in seen.items():
        small = [call for call in calls if call.tenant != "flood"]
        served = sum(call.is_good for call in small) / max(1, len(small))
        lines.append(
            f"| {titles[kind]} | {_goodput(calls, capacity):.1%} | {_within_slo(calls):.1%} | {served:.1%} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
