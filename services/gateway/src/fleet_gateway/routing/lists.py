"""Merged lists: every service is asked as the caller, so each one's own policy decides what is shown.

A slow or dead service never empties the list: what it showed this kind of caller last is used instead.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Any

import structlog
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fleet_common.auth import Principal
from fleet_common.errors import FleetError, UpstreamFailed
from fleet_gateway.registry.models import Catalogue
from fleet_gateway.registry.service import message_of
from fleet_gateway.routing.client import Forwarder
from fleet_gateway.routing.models import LISTS

log = structlog.get_logger()

Rows = list[dict[str, Any]]
_REMEMBERED = 1024
_COPIED = ("content-type", "accept", "mcp-protocol-version", "mcp-method", "traceparent")


class ListMerger:
    """Asks the gateway's own server and every service, and answers with all their rows."""

    def __init__(
        self, local: ASGIApp, catalogue: Catalogue, forwarder: Forwarder, *, timeout_s: float
    ) -> None:
        self._local = local
        self._catalogue = catalogue
        self._forwarder = forwarder
        self._timeout_s = timeout_s
        self._last_good: OrderedDict[tuple[Any, ...], Rows] = OrderedDict()

    async def answer(
        self, method: str, principal: Principal, body: bytes, *, asgi: tuple[Scope, Receive, Send]
    ) -> None:
        """Answer a list request; whatever is wrong with it, the gateway's own server says so."""
        scope, receive, send = asgi
        status, content_type, own = await capture(self._local, scope, receive)
        try:
            message = message_of(content_type, own) if status == 200 else {}
        except UpstreamFailed:
            message = {}
        if "result" not in message:
            await _repeat(status, content_type, own, send)
            return
        key, headers = LISTS[method], Headers(scope=scope)
        forwarded = {name: headers[name] for name in _COPIED if name in headers}
        async with asyncio.TaskGroup() as group:
            asked = [
                group.create_task(self._rows(service, method, principal, body, forwarded))
                for service in self._catalogue.services
            ]
        message["result"][key] = merged([message["result"][key], *(t.result() for t in asked)])
        await JSONResponse(message)(scope, receive, send)

    async def _rows(
        self,
        service: str,
        method: str,
        principal: Principal,
        body: bytes,
        headers: dict[str, str],
    ) -> Rows:
        """Return a service's rows for this caller; its last good ones when it does not answer."""
        slot = (service, method, principal.tenant, principal.roles, principal.scopes)
        try:
            async with asyncio.timeout(self._timeout_s):
                status, content_type, answer = await self._forwarder.fetch(
                    service, principal, body, headers
                )
            if status != 200:
                raise UpstreamFailed(f"the {service} service answered {status}")
            rows: Rows = message_of(content_type, answer)["result"][LISTS[method]]
        except (FleetError, TimeoutError, KeyError, TypeError) as exc:
            log.warning("list_incomplete", service=service, error=type(exc).__name__)
            return self._last_good.get(slot, [])
        self._last_good[slot] = rows
        self._last_good.move_to_end(slot)
        while len(self._last_good) > _REMEMBERED:
            self._last_good.popitem(last=False)
        return rows


def merged(lists: list[Rows]) -> Rows:
    """Return all rows, the first of each name: the gateway's own `fleet_*` tools win."""
    rows: dict[str, dict[str, Any]] = {}
    for row in (row for rows_of_one in lists for row in rows_of_one):
        rows.setdefault(str(row.get("uriTemplate") or row.get("uri") or row.get("name")), row)
    return list(rows.values())


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


async def _repeat(status: int, content_type: str, body: bytes, send: Send) -> None:
    headers = [(b"content-length", str(len(body)).encode())]
    if content_type:
        headers.append((b"content-type", content_type.encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
