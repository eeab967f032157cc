"""Asking a server for a list as somebody: a service through the forwarder, or the gateway's own server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope

from fleet_common.auth import Principal
from fleet_common.errors import UpstreamFailed
from fleet_common.mcp.identity import FleetToken
from fleet_gateway.lists.models import Page, row_of
from fleet_gateway.routing.client import Forwarder, receive_once
from fleet_gateway.routing.models import LISTS

_VERSION = "2026-07-28"
_LONGEST_TTL_MS = 86_400_000
_SERVER_INFO = "io.modelcontextprotocol/serverInfo"


class ServiceLists:
    """The lists of one service, through the forwarder."""

    def __init__(self, service: str, forwarder: Forwarder) -> None:
        self._service = service
        self._forwarder = forwarder

    async def __call__(self, method: str, principal: Principal) -> Page:
        """Return what the service shows `principal`.

        Raises:
            FleetError: it cannot be reached or does not answer with a list.
        """
        status, content_type, body = await self._forwarder.fetch(
            self._service, principal, list_request(method), list_headers(method)
        )
        if status != 200:
            raise UpstreamFailed(f"the {self._service} service answered {status} to {method}")
        return page_of(method, message_of(content_type, body))


class OwnLists:
    """The lists of the gateway's own server."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, method: str, principal: Principal) -> Page:
        """Return what the gateway itself shows `principal`.

        Raises:
            FleetError: it does not answer with a list.
        """
        headers = {**list_headers(method), "host": "127.0.0.1"}
        scope: Scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": "/mcp",
            "raw_path": b"/mcp",
            "root_path": "",
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "user": AuthenticatedUser(FleetToken.of(principal, "")),
        }
        receive = receive_once(list_request(method))
        _, content_type, body = await capture(self._app, scope, receive)
        return page_of(method, message_of(content_type, body))


def list_request(method: str) -> bytes:
    """Return the body that asks for a whole list."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": _VERSION,
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"_meta": meta}}
    return json.dumps(message).encode()


def list_headers(method: str) -> dict[str, str]:
    """Return the headers that go with it."""
    return {
        "content-type": "application/json",
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": _VERSION,
        "mcp-method": method,
    }


def page_of(method: str, message: Mapping[str, Any]) -> Page:
    """Return the page in a JSON-RPC answer.

    Raises:
        UpstreamFailed: there is none, or it is malformed.
    """
    result = _object(message.get("result"))
    rows, ttl_ms = result.get(LISTS[method]), result.get("ttlMs", 0)
    if not isinstance(rows, list):
        raise UpstreamFailed(f"a service answered {method} without a list")
    if not isinstance(ttl_ms, int | float) or not ttl_ms >= 0:  # a NaN is not, either
        raise UpstreamFailed(f"a service answered {method} with a ttlMs that is no time")
    info = _object(_object(result.get("_meta")).get(_SERVER_INFO))
    return Page(
        tuple(row_of(row) for row in rows),
        min(ttl_ms, _LONGEST_TTL_MS) / 1000,
        str(info.get("version", "")),
    )


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def message_of(content_type: str, body: bytes) -> dict[str, Any]:
    """Return the JSON-RPC answer in a plain or a streamed HTTP answer.

    Raises:
        UpstreamFailed: there is none.
    """
    texts = [body]
    if content_type == "text/event-stream":
        texts = [line[5:] for line in body.splitlines() if line.startswith(b"data:")]
    for text in reversed(texts):
        try:
            message = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(message, dict) and ("result" in message or "error" in message):
            return message
    raise UpstreamFailed("a service sent an answer that is no JSON-RPC message")


async def capture(app: ASGIApp, scope: Scope, receive: Receive) -> tuple[int, str, bytes]:
    """Return (status, content type, body) of what `app` answers."""
    started: Message = {}
    chunks: list[bytes] = []

    async def collect(message: Message) -> None:
        if message["type"] == "http.response.start":
            started.update(message)
        else:
            chunks.append(message.get("body", b""))

    await app(scope, receive, collect)
    content_type = Headers(raw=started["headers"]).get("content-type", "").partition(";")[0]
    return started["status"], content_type, b"".join(chunks)
