"""Carries a request to a service and its answer back, both as streams, under an internal token.

The caller's own credential stops here. Bodies are never buffered; when the client hangs up the connection to
the service is closed, which is how MCP cancels a call.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import structlog
from multidict import CIMultiDict
from starlette.types import Receive, Scope, Send

from fleet_common.auth import Principal
from fleet_common.auth.internal import InternalSigner
from fleet_common.errors import FleetError, Unavailable, UpstreamFailed
from fleet_common.mcp.gate import error_response
from fleet_common.metrics import Metrics

log = structlog.get_logger()

# RFC 9110 §7.6.1: these concern one connection only. The rest carry credentials or are set anew.
_NOT_FORWARDED = {
    *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection"),
    *("te", "trailer", "transfer-encoding", "upgrade"),
    *("host", "authorization", "x-api-key", "cookie", "origin", "x-request-id"),
}
_NOT_RETURNED = {
    *("connection", "keep-alive", "transfer-encoding", "upgrade", "trailer"),
    *("www-authenticate", "set-cookie", "server", "date", "x-request-id"),
}


class Forwarder:
    """One pooled connection to every service."""

    def __init__(
        self,
        backends: Mapping[str, str],
        signer: InternalSigner,
        metrics: Metrics,
        *,
        connect_timeout_s: float,
    ) -> None:
        self._backends = backends
        self._signer = signer
        self._metrics = metrics
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout_s)
        self._session: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[None]:
        """Keep the connections while the block runs."""
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30)
        async with aiohttp.ClientSession(
            connector=connector,
            timeout=self._timeout,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        ) as session:
            self._session = session
            try:
                yield
            finally:
                self._session = None

    async def fetch(
        self, service: str, principal: Principal, body: bytes, headers: Mapping[str, str]
    ) -> tuple[int, str, bytes]:
        """Post one message and return (status, content type, body) of the whole answer.

        Raises:
            Unavailable: the service cannot be reached.
        """
        async with self._request(service, principal, body, headers.items()) as response:
            return response.status, response.content_type, await response.read()

    async def alive(self, service: str) -> bool:
        """Return whether the service says that it is ready."""
        url = f"{self._backends[service]}/readyz"
        try:
            async with self._open_session().get(url) as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False

    async def forward(
        self,
        service: str,
        principal: Principal,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        """Answer an ASGI request with the service's own answer."""
        body = _Body(receive)
        exchange = asyncio.create_task(
            self._exchange(service, principal, scope, body, send), name="exchange"
        )
        left = asyncio.create_task(body.client_left(), name="client-left")
        try:
            await asyncio.wait({exchange, left}, return_when=asyncio.FIRST_COMPLETED)
            if exchange.done():
                exchange.result()
            else:
                log.info("client_gone", service=service)
        except FleetError as exc:
            await error_response(exc)(scope, receive, send)
        finally:
            for task in (exchange, left):
                task.cancel()
            await asyncio.gather(exchange, left, return_exceptions=True)

    async def _exchange(
        self, service: str, principal: Principal, scope: Scope, body: _Body, send: Send
    ) -> None:
        headers = ((k.decode("latin-1"), v.decode("latin-1")) for k, v in scope["headers"])
        sent = body.chunks() if scope["method"] == "POST" else None
        async with self._request(service, principal, sent, headers, scope["method"]) as response:
            if response.status == 401:
                # Our own token was refused. Passed on, it would send the client into an OAuth dance.
                log.error("internal_token_refused", service=service)
                raise UpstreamFailed(f"the {service} service refused the gateway")
            await _send_on(response, send)

    @asynccontextmanager
    async def _request(
        self,
        service: str,
        principal: Principal,
        body: Any,
        headers: Iterable[tuple[str, str]],
        method: str = "POST",
    ) -> AsyncGenerator[aiohttp.ClientResponse]:
        own = CIMultiDict((k, v) for k, v in headers if k.lower() not in _NOT_FORWARDED)
        own["authorization"] = f"Bearer {self._signer.mint(principal, audience=service)}"
        request_id = structlog.contextvars.get_contextvars().get("request_id")
        if request_id:
            own["x-request-id"] = request_id
        started = asyncio.get_running_loop().time()
        try:
            async with self._open_session().request(
                method, f"{self._backends[service]}/mcp", data=body, headers=own
            ) as response:
                yield response
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError) as exc:
            log.warning("service_unreachable", service=service, error=type(exc).__name__)
            raise Unavailable(f"the {service} service") from exc
        finally:
            seconds = asyncio.get_running_loop().time() - started
            self._metrics.downstream_seconds.labels(dep=service).observe(seconds)

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise Unavailable("the gateway")
        return self._session


class _Body:
    """The request's body as it arrives, and afterwards the watch for the client's leaving."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._ended = asyncio.Event()

    async def chunks(self) -> AsyncGenerator[bytes]:
        """Yield the body's chunks."""
        more = True
        while more:
            message = await self._receive()
            if message.get("body"):
                yield message["body"]
            more = message["type"] == "http.request" and message.get("more_body", False)
        self._ended.set()

    async def client_left(self) -> None:
        """Return when the client has hung up after it sent the whole body."""
        await self._ended.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass


async def _send_on(response: aiohttp.ClientResponse, send: Send) -> None:
    headers = [(k, v) for k, v in response.raw_headers if k.decode().lower() not in _NOT_RETURNED]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    async for chunk in response.content.iter_any():
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
