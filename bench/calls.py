"""CPU of one tool call: our whole stack beside stock FastMCP and bare FastMCP with the schema shim.

In process: the ASGI app is called directly, so that no client and no kernel is measured. Each call is a
2026-07-28 `tools/call` of an echo. The contenders take turns in batches, at all numbers of tools, and the best
batch of each counts, because noise on a shared machine only ever adds. Ours authenticates a fleet key, applies
policy and admission, counts, writes its audit record to a file and its log line to the null device.
"""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, redirect_stderr
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

import fastmcp
import uvloop
from fastmcp import FastMCP
from fastmcp.tools import tool
from mcp_types import ToolAnnotations
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from bench.inprocess import exchange, modern_call, scope_of, service_of
from bench.report import Report
from fleet_common.auth.keys import KeyFile
from fleet_common.logs import configure
from fleet_common.mcp.app import create_app
from fleet_common.mcp.fixed import skip_hidden_list
from fleet_common.settings import ServiceSettings

TOOLS = (1, 50, 200)
BATCHES = 12
CALLS = {"floor": 2000, "bare": 200, "stock": 60, "ours": 200}


@dataclass(frozen=True, slots=True)
class Contender:
    """An app, the key it wants, and FastMCP's telemetry as the app leaves it."""

    app: Starlette
    key: str | None = None
    telemetry: Literal["native", "propagation_only", "off"] = "native"


def echo(number: int) -> Callable[..., Any]:
    async def echo_text(text: str) -> str:
        """Return the text."""
        return text

    echo_text.__name__ = f"echo_{number}"
    return tool(annotations=ToolAnnotations(read_only_hint=True))(echo_text)


def floor(_tools: int, _folder: Path) -> Contender:
    """A JSON-RPC echo on bare Starlette: what no stack can beat."""

    async def answer(request: Request) -> JSONResponse:
        body = await request.json()
        content = [{"type": "text", "text": body["params"]["arguments"]["text"]}]
        return JSONResponse({"jsonrpc": "2.0", "id": body["id"], "result": {"content": content}})

    return Contender(Starlette(routes=[Route("/mcp", answer, methods=["POST"])]))


def stock(tools: int, _folder: Path) -> Contender:
    """FastMCP as it ships."""
    server: FastMCP[Any] = FastMCP("stock")
    for number in range(tools):
        server.add_tool(echo(number))
    return Contender(server.http_app(stateless_http=True))


def bare(tools: int, _folder: Path) -> Contender:
    """FastMCP without its hidden list before each call."""
    server: FastMCP[Any] = FastMCP("bare")
    skip_hidden_list(server, [server.add_tool(echo(number)) for number in range(tools)])
    return Contender(server.http_app(stateless_http=True))


def ours(tools: int, folder: Path) -> Contender:
    """The fleet's app factory with everything on; its key file is made in `folder`."""
    path = folder / f"keys-{tools}.json"
    key = KeyFile(path).create(name="bench", roles=["viewer"], tenant="bench").text
    service = service_of(*(echo(number) for number in range(tools)))
    settings = ServiceSettings(
        keys_file=path, audit_sink="file", audit_file=folder / f"audit-{tools}.jsonl"
    )
    app = create_app(service, settings)
    return Contender(app, key, telemetry=fastmcp.settings.telemetry_mode)


CONTENDERS = {"floor": floor, "bare": bare, "stock": stock, "ours": ours}


def run() -> Report:
    """Measure all contenders at 1, 50 and 200 tools."""
    with (
        tempfile.TemporaryDirectory() as folder,
        Path(os.devnull).open("w") as unread,
        redirect_stderr(unread),
    ):
        configure("INFO", "json", service="bench")
        logging.getLogger("mcp").setLevel(logging.WARNING)
        measured = uvloop.run(_measure(Path(folder)))
    figures: dict[str, float | None] = {
        "stack_vs_bare": round(measured[50]["ours"] / measured[50]["bare"], 2),
        "stock_vs_stack": round(measured[50]["stock"] / measured[50]["ours"], 2),
        "tools200_vs_1": round(measured[200]["ours"] / measured[1]["ours"], 2),
    }
    notes = {"stack_vs_bare": "at 50 tools", "stock_vs_stack": "at 50 tools"}
    return Report(figures, _table(measured), notes)


async def _measure(folder: Path) -> dict[int, dict[str, float]]:
    """Return the CPU of one call in µs, by number of tools and contender."""
    async with AsyncExitStack() as stack:
        calls: dict[tuple[int, str], Callable[[], Awaitable[None]]] = {}
        for tools, (name, make) in product(TOOLS, CONTENDERS.items()):
            contender = make(tools, folder)
            app = contender.app
            await stack.enter_async_context(app.router.lifespan_context(app))
            calls[tools, name] = _caller(contender)
        best = dict.fromkeys(calls, float("inf"))
        for _ in range(BATCHES):
            for key, call in calls.items():
                best[key] = min(best[key], await _batch(call, CALLS[key[1]]))
    return {tools: {name: best[tools, name] for name in CONTENDERS} for tools in TOOLS}


async def _batch(call: Callable[[], Awaitable[None]], count: int) -> float:
    await call()
    started = time.process_time()
    for _ in range(count):
        await call()
    return (time.process_time() - started) / count * 1e6


def _caller(contender: Contender) -> Callable[[], Awaitable[None]]:
    headers, body = modern_call("echo_0", contender.key)

    async def call() -> None:
        fastmcp.settings.telemetry_mode = contender.telemetry
        answered = await exchange(contender.app, scope_of(headers), body)
        assert b"hello" in answered, answered

    return call


def _table(measured: dict[int, dict[str, float]]) -> str:
    names = {
        "floor": "JSON-RPC echo on bare Starlette (the floor)",
        "bare": "FastMCP with the schema shim, nothing on",
        "stock": "FastMCP as it ships, nothing on",
        "ours": "**ours**: key, policy, admission, audit record, metrics",
    }
    heading = " | ".join(f"{tools} tool{'s' * (tools > 1)}" for tools in measured)
    lines = [f"| CPU per call, µs | {heading} |", "|---|" + "---|" * len(measured)]
    for name, title in names.items():
        cells = " | ".join(f"{row[name]:,.0f}" for row in measured.values())
        lines.append(f"| {title} | {cells} |")
    for title, top, bottom in (("ours / bare", "ours", "bare"), ("stock / ours", "stock", "ours")):
        cells = " | ".join(f"{row[top] / row[bottom]:.2f}" for row in measured.values())
        lines.append(f"| {title} | {cells} |")
    return "\n".join(lines)
