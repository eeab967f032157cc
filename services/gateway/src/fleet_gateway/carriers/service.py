"""The app behind a carried path."""

from __future__ import annotations

from starlette.types import Receive, Scope, Send

from fleet_common.audit import AuditLog
from fleet_common.errors import DeadlineExceeded, Overloaded, RateLimited
from fleet_common.mcp.envelope import Envelope
from fleet_common.mcp.gate import error_response
from fleet_common.mcp.recording import shed
from fleet_gateway.carriers.models import Carried
from fleet_gateway.carriers.patience import Patience
from fleet_gateway.routing.client import Destination, Forwarder
from fleet_gateway.routing.service import principal_of
from fleet_gateway.routing.shares import Share, address_of


def asks(scope: Scope) -> Envelope:
    """Return what limits count a carried request as: a call, by its path."""
    return Envelope("tools/call", scope["path"])


class Carrier:
    """Streams a request to the owner of its path and the answer back."""

    def __init__(self, carried: Carried, forwarder: Forwarder, audit: AuditLog) -> None:
        self._carried = carried
        self._forwarder = forwarder
        self._audit = audit
        self._share = Share(carried.at_once)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Carry the request, if its path has room for it."""
        tenant = principal_of(scope).tenant if self._carried.needs_caller else None
        try:
            with self._share.held(tenant or address_of(scope)):
                await self._carry(scope, receive, send)
        except (Overloaded, RateLimited) as refusal:
            # Recorded by the pattern of its path, which itself may open something.
            shed(self._audit, scope, refusal, Envelope("", self._carried.path))
            await error_response(refusal)(scope, receive, send)

    async def _carry(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = Patience(receive, send)
        query = scope["query_string"].decode("latin-1")
        path = scope.get("raw_path", scope["path"].encode()).decode("latin-1")
        await self._forwarder.forward(
            Destination(self._carried.service, target=f"{path}?{query}".removesuffix("?")),
            principal_of(scope) if self._carried.needs_caller else None,
            scope,
            client.receive,
            client.send,
        )
        if client.is_lost:
            late = DeadlineExceeded("the request stood still for too long")
            await error_response(late)(scope, receive, send)
