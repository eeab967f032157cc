"""What is behind `/<service>/mcp`: everything goes to that one service, but for tools that are held back.

While none is, requests and answers stream through unread.
"""

from __future__ import annotations

import json
from typing import Any

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from fleet_common.errors import InvalidInput, UpstreamFailed
from fleet_common.mcp.body import keep_body
from fleet_common.mcp.gate import error_response
from fleet_gateway.lists.sources import capture, message_of
from fleet_gateway.registry.models import ServiceState
from fleet_gateway.routing.client import Destination, Forwarder
from fleet_gateway.routing.models import of_body, of_headers
from fleet_gateway.routing.service import principal_of


class Straight:
    """The way to one service.

    Args:
        to: its name.
        state: what the registry knows about it.
        forwarder: how requests get there.
        local: the gateway's own server, to which a held tool is unknown. A held `fleet_*` tool is then the
            gateway's, as it always is on `/mcp`.
    """

    def __init__(self, to: str, state: ServiceState, forwarder: Forwarder, local: ASGIApp) -> None:
        self._to = Destination(to)
        self._state = state
        self._forwarder = forwarder
        self._local = local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward the request under the caller's internal token."""
        held = self._state.offer.held
        if not held or scope["method"] != "POST":
            await self._forward(scope, receive, send)
            return
        try:
            await self._sift(held, scope, receive, send)
        except (InvalidInput, UpstreamFailed) as exc:
            await error_response(exc)(scope, receive, send)

    async def _forward(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._forwarder.forward(self._to, principal_of(scope), scope, receive, send)

    async def _sift(self, held: frozenset[str], scope: Scope, receive: Receive, send: Send) -> None:
        envelope = of_headers(scope)
        if envelope is None:
            receive = kept = await keep_body(receive)
            envelope = of_body(kept.parsed())
        if envelope.method == "tools/call" and envelope.name in held:
            await self._local(scope, receive, send)
        elif envelope.method == "tools/list":
            answer = await capture(self._forward, scope, receive)
            await _without(held, *answer)(scope, receive, send)
        else:
            await self._forward(scope, receive, send)


def _without(held: frozenset[str], status: int, content_type: str, body: bytes) -> Response:
    """Return the answer to a list without these tools; one that is no list stays as it is.

    Raises:
        UpstreamFailed: it cannot be told what is in it.
    """
    if status != 200:
        return Response(body, status, media_type=content_type or None)
    message = message_of(content_type, body)
    if "result" in message:
        result = message["result"]
        if not isinstance(result, dict) or not isinstance(result.get("tools"), list):
            raise UpstreamFailed("a service answered tools/list without a list")
        result["tools"] = [tool for tool in result["tools"] if _name(tool) not in held]
    return Response(json.dumps(message), media_type="application/json")


def _name(tool: Any) -> object:
    return tool.get("name") if isinstance(tool, dict) else None
