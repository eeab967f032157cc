"""The app behind a carried path."""

from __future__ import annotations

from starlette.types import Receive, Scope, Send

from fleet_common.mcp.envelope import Envelope
from fleet_gateway.carriers.models import Carried
from fleet_gateway.routing.client import Destination, Forwarder
from fleet_gateway.routing.service import principal_of


def asks(scope: Scope) -> Envelope:
    """Return what limits count a carried request as: a call, by its path."""
    return Envelope("tools/call", scope["path"])


class Carrier:
    """Streams a request to the owner of its path and the answer back."""

    def __init__(self, carried: Carried, forwarder: Forwarder) -> None:
        self._carried = carried
        self._forwarder = forwarder

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Carry the request."""
        principal = principal_of(scope) if self._carried.needs_caller else None
        query = scope["query_string"].decode("latin-1")
        path = scope.get("raw_path", scope["path"].encode()).decode("latin-1")
        await self._forwarder.forward(
            Destination(self._carried.service, target=f"{path}?{query}".removesuffix("?")),
            principal,
            scope,
            receive,
            send,
        )
