"""A service of a few tools, and calls of them without a client or a kernel in between."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

from starlette.types import ASGIApp

from fleet_common.mcp import Service
from fleet_common.settings import ServiceSettings
from fleet_common.testing.wire import modern


def service_of(*tools: Callable[..., Any]) -> Service[ServiceSettings, None]:
    """Return a service that has `tools` and needs nothing."""
    return Service(
        name="data",
        version="1",
        instructions="",
        settings=ServiceSettings,
        open_deps=_nothing,
        tools=tools,
    )


@asynccontextmanager
async def _nothing(_settings: Any, _runtime: Any) -> AsyncGenerator[None]:
    yield None


def modern_call(tool: str, key: str | None = None) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Return the raw headers and the body of a 2026-07-28 call with the text "hello"."""
    request = modern("tools/call", tool, arguments={"text": "hello"})
    body = json.dumps(request["json"]).encode()
    headers = {"host": "127.0.0.1", "content-type": "application/json", **request["headers"]}
    headers["content-length"] = str(len(body))
    if key:
        headers["authorization"] = f"Bearer {key}"
    return [(name.encode(), value.encode()) for name, value in headers.items()], body


def scope_of(headers: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/mcp",
        "raw_path": b"/mcp",
        "root_path": "",
        "query_string": b"",
        "headers": list(headers),
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "state": {},
    }


async def exchange(app: ASGIApp, scope: dict[str, Any], body: bytes) -> bytes:
    messages = [{"type": "http.request", "body": body, "more_body": False}]
    chunks: list[bytes] = []

    async def receive() -> Any:
        if not messages:
            await asyncio.Event().wait()  # the client stays until it has its answer
        return messages.pop()

    async def send(message: Any) -> None:
        chunks.append(message.get("body", b""))

    await app(scope, receive, send)
    return b"".join(chunks)
