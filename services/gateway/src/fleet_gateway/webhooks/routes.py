"""`POST /webhooks/{provider}`: the raw bytes go to the owning service, which alone can tell whether they are signed.

No credential is asked for here, so the body's size, the time it may take, and how many a provider, and one address in
its name, may have at once are bounded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fleet_common.errors import DeadlineExceeded, FleetError, NotFound
from fleet_common.mcp.body import read_body
from fleet_common.mcp.gate import error_response
from fleet_gateway.routing.client import Forwarder
from fleet_gateway.routing.shares import Share, address_of

log = structlog.get_logger()

_AT_ONCE = 64
_BODY_S = 10.0
_ANSWER_S = 20.0
_RETURNED = ("content-type", "retry-after")


class WebhookRoutes:
    """Knows the owner of each provider."""

    def __init__(self, owners: Mapping[str, str], forwarder: Forwarder) -> None:
        self._owners = owners
        self._forwarder = forwarder
        self._shares = {provider: Share(_AT_ONCE) for provider in self._owners}

    def routes(self) -> list[Route]:
        """Return the route."""
        return [Route("/webhooks/{provider}", self._answer, methods=["POST"])]

    async def _answer(self, request: Request) -> Response:
        try:
            return await self._carry(request)
        except FleetError as exc:
            log.info("webhook_not_carried", error=exc.code)
            return error_response(exc)

    async def _carry(self, request: Request) -> Response:
        provider = request.path_params["provider"]
        owner = self._owners.get(provider)
        if owner is None or owner not in self._forwarder.pools:
            raise NotFound("webhook", "of this provider")
        target = f"/webhooks/{provider}?{request.url.query}".removesuffix("?")
        try:
            with self._shares[provider].held(address_of(request.scope)):
                async with asyncio.timeout(_BODY_S):
                    body = await read_body(request.receive)
                async with asyncio.timeout(_ANSWER_S):
                    status, headers, content = await self._forwarder.post(
                        owner, target, request.headers.raw, body
                    )
        except TimeoutError:
            raise DeadlineExceeded("the delivery took too long") from None
        kept = {name: headers[name] for name in _RETURNED if name in headers}
        return Response(content, status, kept)
