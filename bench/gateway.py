"""What a hop through the gateway costs: ours beside FastMCP's `create_proxy` and ContextForge, all before one upstream.

Each gateway is a process, as it is deployed; what counts is its own user and system time. Calls come in a closed
loop; the gateways take turns in batches and the best batch of each counts. Ours authenticates a fleet key, checks
the switches, takes the call out of the caller's limit and daily quota, holds a slot, chooses an endpoint and
forwards under an internal token.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import aiohttp

from bench import rivals, shed
from bench.processes import Served, free_port, served
from bench.report import Report
from bench.upstream import TOOLS
from fleet_cli.engines.valkey import Valkey
from fleet_common.auth.internal import generate_keypair
from fleet_common.auth.keys import KeyFile
from fleet_common.testing.wire import modern

BATCHES = 5
AT_ONCE = 8  # callers of the closed loop
OURS, RIVALS = 2000, 16  # calls in a batch
Era = Literal["2026-07-28", "2025-11-25"]
POLICY = """
version: 1
roles:
  viewer:
    scopes: ["data:read"]
    limits: {calls: {per_minute: 10000000, burst: 1000000}}
    quotas: {calls_per_day: 1000000000}
"""


@dataclass(frozen=True, slots=True)
class Load:
    """One kind of call to one gateway.

    Attributes:
        expects: what a right answer holds.
        calls: in one batch.
    """

    server: Served
    request: dict[str, Any]
    expects: bytes
    calls: int

    @classmethod
    def call(
        cls, server: Served, era: Era, tool: str, calls: int, headers: Mapping[str, str]
    ) -> Load:
        return cls(server, _request(era, headers, "tools/call", tool), b"hello", calls)


def run() -> Report:
    """Measure all gateways in one run."""
    notes: dict[str, str] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        upstream = stack.enter_context(_upstream())
        loads = _ours(stack, folder, upstream) | _floors(stack, upstream)
        server = stack.enter_context(rivals.proxy(upstream))
        loads |= _both_eras("create_proxy", server, "crm_echo_0", RIVALS, {})
        try:
            server, headers = stack.enter_context(rivals.contextforge(upstream))
            loads |= _both_eras("contextforge", server, rivals.CONTEXTFORGE_TOOL, RIVALS, headers)
        except rivals.DID_NOT_RUN as exc:
            notes["contextforge_vs_hop"] = f"{type(exc).__name__}: {exc}"
        best = asyncio.run(_measure(loads))
    best |= shed.measure()
    figures = {
        "hop_ms": round(best["hop"], 3),
        "hop_redis_ms": round(best["hop_redis"], 3),
        "floor_ms": round(best["floor"], 3),
        "floor_hop_ms": round(best["floor_hop"], 3),
        "list_ms": round(best["list"], 3),
        "shed_us": round(best["shed"] * 1000, 1),
        "create_proxy_vs_hop": _times(best, "create_proxy"),
        "contextforge_vs_hop": _times(best, "contextforge"),
    }
    return Report(figures, _table(best), notes)


def _ours(stack: ExitStack, folder: Path, upstream: Served) -> dict[str, Load]:
    server, headers = stack.enter_context(_gateway(folder, upstream))
    loads = _both_eras("hop", server, "crm_echo_0", OURS, headers)
    listing = _request("2026-07-28", headers, "tools/list")
    loads["list"] = Load(server, listing, f"crm_echo_{TOOLS - 1}".encode(), OURS)
    redis_url = stack.enter_context(_valkey(folder))
    server, headers = stack.enter_context(_gateway(folder, upstream, redis_url))
    loads["hop_redis"] = Load.call(server, "2026-07-28", "crm_echo_0", OURS, headers)
    return loads


def _floors(stack: ExitStack, upstream: Served) -> dict[str, Load]:
    """Return what shows how much of a hop is the server and the sockets: see `bench.floor`."""
    loads = {}
    for name, words in {"floor": [], "floor_hop": [upstream.url]}.items():
        port = free_port()
        command = [sys.executable, "-m", "bench.floor", str(port), *words]
        server = stack.enter_context(served(command, port=port))
        loads[name] = Load.call(server, "2026-07-28", "crm_echo_0", OURS, {})
    return loads


def _both_eras(
    name: str, server: Served, tool: str, calls: int, headers: Mapping[str, str]
) -> dict[str, Load]:
    return {
        name: Load.call(server, "2026-07-28", tool, calls, headers),
        f"{name}_legacy": Load.call(server, "2025-11-25", tool, calls, headers),
    }


def _request(
    era: Era, headers: Mapping[str, str], method: str, tool: str | None = None
) -> dict[str, Any]:
    params: dict[str, Any] = {"arguments": {"text": "hello"}} if tool else {}
    request = modern(method, tool, **params)
    if era == "2025-11-25":
        del request["json"]["params"]["_meta"]
        accept = request["headers"]["accept"]
        request["headers"] = {"accept": accept, "mcp-protocol-version": era}
    own = {"content-type": "application/json", **request["headers"], **headers}
    return {"data": json.dumps(request["json"]).encode(), "headers": own}


@contextmanager
def _upstream() -> Iterator[Served]:
    port = free_port()
    with served([sys.executable, "-m", "bench.upstream", str(port)], port=port) as server:
        yield server


@contextmanager
def _valkey(folder: Path) -> Iterator[str]:
    engine = Valkey(
        home=folder / "valkey", port=free_port(), password="bench", log=folder / "valkey.log"
    )
    child = engine.start()
    try:
        yield engine.url
    finally:
        child.stop()


@contextmanager
def _gateway(
    folder: Path, upstream: Served, redis_url: str | None = None
) -> Iterator[tuple[Served, Mapping[str, str]]]:
    """Run the gateway as `fleet run` does, and yield it with the headers of a caller."""
    keys, private, policy = folder / "keys.json", folder / "private.pem", folder / "policy.yaml"
    private.write_bytes(generate_keypair()[0])
    policy.write_text(POLICY, "utf-8")
    port = free_port()
    env = {
        "FLEET_GATEWAY_PORT": str(port),
        "FLEET_GATEWAY_SERVICES": f"data={upstream.url}",
        "FLEET_GATEWAY_KEYS_FILE": str(keys),
        "FLEET_GATEWAY_POLICY_FILE": str(policy),
        "FLEET_GATEWAY_INTERNAL_PRIVATE_KEY_FILE": str(private),
        **({"FLEET_GATEWAY_REDIS_URL": redis_url} if redis_url else {}),
    }
    key = KeyFile(keys).create(name="bench", roles=["viewer"], tenant="bench").text
    command = [sys.executable, "-m", "fleet_gateway", "serve"]
    with served(command, port=port, env=env) as server:
        yield server, {"authorization": f"Bearer {key}"}


async def _measure(loads: Mapping[str, Load]) -> dict[str, float]:
    """Return the CPU of one call in ms, by load."""
    best = dict.fromkeys(loads, float("inf"))
    timeout = aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        for load in loads.values():
            await _drive(session, load, load.calls // 10)
        for _ in range(BATCHES):
            for name, load in loads.items():
                began = load.server.cpu_s()
                await _drive(session, load, load.calls)
                spent = load.server.cpu_s() - began
                best[name] = min(best[name], spent / load.calls * 1000)
    return best


async def _drive(session: aiohttp.ClientSession, load: Load, calls: int) -> None:
    left = iter(range(calls))

    async def repeat() -> None:
        for _ in left:
            async with session.post(f"{load.server.url}/mcp", **load.request) as response:
                body = await response.read()
                assert load.expects in body, (response.status, body[:500])

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(repeat())


def _times(best: Mapping[str, float], rival: str) -> float | None:
    return round(best[rival] / best["hop"], 0) if rival in best else None


def _table(best: Mapping[str, float]) -> str:
    rows = {
        "**ours**: a forwarded call": ("hop", "hop_legacy"),
        "**ours**, limits in Redis": ("hop_redis", None),
        f"**ours**: `tools/list` of {TOOLS} tools, cached": ("list", None),
        "**ours**: a call that is shed, all layers": ("shed_all", None),
        "the floor: our server and an app that does nothing": ("floor", None),
        "the floor of a hop: our server and client, nothing in between": ("floor_hop", None),
        "FastMCP `create_proxy`": ("create_proxy", "create_proxy_legacy"),
        "ContextForge 1.1.0, one worker, SQLite, rate limit off": (
            "contextforge",
            "contextforge_legacy",
        ),
    }
    lines = ["| CPU of the gateway per call, ms | 2026-07-28 | 2025-11-25 |", "|---|---|---|"]
    for title, names in rows.items():
        cells = (f"{best[name]:.3g}" if name and name in best else "–" for name in names)
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)
