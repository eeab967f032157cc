"""Carries a request to an endpoint of a service and its answer back, under an internal token.

The caller's own credential stops here. When the client hangs up the connection to the service is closed, which
is how MCP cancels a call. A request is sent once more, to another endpoint, when that is safe:

- nobody listened at the first one: always, for nothing was sent;
- the first one shed it (503 or 429 with Retry-After): an MCP call was not run then. What is carried may have been, for
  all that its owner says, and is treated as if the connection had broken;
- the connection broke before the first byte of the answer: only a call that may run twice.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, TypeAlias

import structlog
from starlette.datastructures import Headers as HeadersView
from starlette.types import Message, Receive, Scope, Send

from fleet_common.auth import Principal
from fleet_common.deadline import TIMEOUT_HEADER, remaining
from fleet_common.errors import DeadlineExceeded, FleetError, Unavailable, UpstreamFailed
from fleet_common.logs import request_facts
from fleet_common.mcp.body import ClientGone
from fleet_common.mcp.gate import error_response
from fleet_common.tracing import ClientSpan
from fleet_gateway.balancing.models import Endpoint
from fleet_gateway.balancing.service import Pool
from fleet_gateway.registry.models import Catalogue
from fleet_gateway.routing.answer import Answer
from fleet_gateway.routing.body import Body
from fleet_gateway.routing.connection import Broken, Connection, Headers
from fleet_gateway.routing.connections import Connections, Exchange, Refused
from fleet_gateway.routing.hops import HOP_BY_HOP, staying
from fleet_gateway.routing.nesting import MARKER_HEADER, Nesting
from fleet_gateway.routing.presence import Presence
from fleet_gateway.routing.tokens import Tokens

log = structlog.get_logger()

_MARKER, _TIMEOUT = MARKER_HEADER.encode(), TIMEOUT_HEADER.lower().encode()
# These carry credentials or are set anew; the length, too: one that is not the body's own would make the next caller's
# request part of this one.
_NOT_FORWARDED = HOP_BY_HOP | frozenset(
    {
        *(b"host", b"authorization", b"x-api-key", b"cookie", b"origin", b"x-request-id"),
        b"content-length",
        *(_TIMEOUT, _MARKER),
    }
)
_SHED = (429, 503)
_ENDPOINTS = 3  # at most so many are tried while nobody listens
_GRACE_S = 1.0  # the service knows the deadline too, and its own answer says more than ours

RawHeaders: TypeAlias = Sequence[tuple[bytes, bytes]]
Reason = Literal["refused", "shed", "broken"]
Outcome = Literal["good", "bad", "shed"]


class _TryAgain(Exception):
    """An attempt that gave no answer the client should see, and that may be repeated."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


class ServiceLost(Unavailable):
    """Raised when no endpoint took the call, or the one that did broke.

    Attributes:
        may_have_run: it was sent, and nobody knows what became of it.
    """

    may_have_run = False


class Destination(NamedTuple):
    """Where a request goes.

    Attributes:
        service: whose endpoints.
        target: path and query; None is the MCP endpoint.
        fallback: a service that takes the request when the first one is unavailable.
    """

    service: str
    target: str | None = None
    fallback: str | None = None


@dataclass(slots=True)
class Call:
    """One request on its way.

    Attributes:
        principal: None when the service itself finds out who calls.
        target: path and query; None is the MCP endpoint.
        tried: endpoints that it was sent to.
        was_repeated: the one retry that costs a service something is used up.
    """

    pool: Pool
    principal: Principal | None
    method: str
    target: str | None
    headers: Headers
    body: Body
    answer: Answer
    tried: list[Endpoint] = field(default_factory=list)
    was_repeated: bool = False


class Forwarder:
    """The way to every service."""

    def __init__(
        self,
        pools: Mapping[str, Pool],
        catalogue: Catalogue,
        tokens: Tokens,
        nesting: Nesting,
        *,
        connect_timeout_s: float,
    ) -> None:
        self.pools = pools
        self._catalogue = catalogue
        self._tokens = tokens
        self._nesting = nesting
        self._connections = Connections(connect_timeout_s=connect_timeout_s)
        self._presence = Presence()

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[None]:
        """Keep connections, and watch for endpoints, while the block runs."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._connections.opened())
            await stack.enter_async_context(self._tokens.opened())
            for pool in [*self.pools.values()]:
                await stack.enter_async_context(pool.watching())
            yield

    async def fetch(
        self, service: str, principal: Principal, body: bytes, headers: Mapping[str, str]
    ) -> tuple[int, str, bytes]:
        """Post one message and return (status, content type, body) of the whole answer.

        Raises:
            Unavailable: the service cannot be reached.
        """
        start: Message = {}
        chunks: list[bytes] = []

        async def collect(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            else:
                chunks.append(message["body"])

        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        scope: Scope = {"method": "POST", "headers": raw}
        destination = Destination(service)
        call = await self._call(destination, principal, scope, receive_once(body), collect)
        await self._carry(call)
        content_type = (
            dict(start["headers"]).get(b"content-type", b"").decode("latin-1").partition(";")[0]
        )
        return start["status"], content_type, b"".join(chunks)

    async def post(
        self, service: str, target: str, headers: RawHeaders, body: bytes
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Post raw bytes that come with no caller; return (status, headers, body) of the whole answer.

        Args:
            service: whose endpoint.
            target: path and query.
            headers: what came in; credentials and what concerns one connection are left out.
            body: sent as it is, once.

        Raises:
            ServiceLost: no endpoint took it, or the one that did broke.
        """
        pool = self._pool(service)
        endpoint = await pool.choose()
        with ClientSpan("POST", lambda: {"peer.service": f"fleet-{service}"}) as span:
            own = _with(_forwarded(headers), _attempt_headers(endpoint, math.inf), span.headers)
            try:
                async with self._connections.request(
                    endpoint.address, "POST", target, own, body
                ) as response:
                    span.answered(response.status)
                    found = HeadersView(raw=response.headers)
                    return response.status, found, await response.read()
            except (Refused, Broken) as exc:
                pool.failed(endpoint)
                raise ServiceLost(f"the {service} service") from exc

    async def is_ready(self, service: str) -> bool:
        """Return whether an endpoint of the service says that it is ready."""
        pool = self.pools.get(service)
        if pool is None or not pool.endpoints:
            return False
        endpoint = await pool.choose()
        host = _attempt_headers(endpoint, math.inf)
        try:
            async with self._connections.request(
                endpoint.address, "GET", "/readyz", host
            ) as response:
                return response.status == 200
        except (Refused, Broken):
            return False

    async def forward(
        self,
        to: Destination,
        principal: Principal | None,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        """Answer an ASGI request with the service's own answer."""
        try:
            call = await self._call(to, principal, scope, receive, send)
            with self._presence.needed(call.body, call.answer):
                await self._answer(call, to, scope)
        except ClientGone:
            log.info("client_gone", service=to.service)
        except FleetError as exc:
            await error_response(exc)(scope, receive, send)

    async def _answer(self, call: Call, to: Destination, scope: Scope) -> None:
        try:
            try:
                await self._carry(call)
            except Unavailable as exc:
                if to.fallback is None or not self._may_fall_back(call, exc):
                    raise
                call.pool.repeated("fallback")
                await self._carry(await self._redirected(call, to.fallback, scope))
        except FleetError as exc:
            call.pool.gave_up()
            await call.answer.fail(exc, scope, call.body.kept)

    def _may_fall_back(self, call: Call, exc: Unavailable) -> bool:
        if call.answer.has_begun or call.body.is_spent:
            return False
        may_have_run = isinstance(exc, ServiceLost) and exc.may_have_run
        return not may_have_run or self._may_run_twice(call)

    async def _redirected(self, call: Call, service: str, scope: Scope) -> Call:
        headers = await self._own_headers(service, call.principal, scope)
        return replace(
            call, pool=self._pool(service), headers=headers, tried=[], was_repeated=False
        )

    async def _call(
        self,
        to: Destination,
        principal: Principal | None,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> Call:
        body = Body(receive)
        await body.begin()
        return Call(
            pool=self._pool(to.service),
            principal=principal,
            method=scope["method"],
            target=to.target,
            headers=await self._own_headers(to.service, principal, scope),
            body=body,
            answer=Answer(send),
        )

    def _pool(self, service: str) -> Pool:
        pool = self.pools.get(service)
        if pool is None:  # it left while the request was on its way
            raise Unavailable(f"the {service} service")
        return pool

    async def _own_headers(
        self, service: str, principal: Principal | None, scope: Scope
    ) -> Headers:
        own = _forwarded(scope["headers"])
        own.append((_MARKER, self._nesting.marker(scope).encode()))
        if principal is not None:
            token = await self._tokens.token(principal, service, scope)
            own.append((b"authorization", f"Bearer {token}".encode()))
        if request_id := request_facts().get("request_id"):
            own.append((b"x-request-id", request_id.encode()))
        return own

    async def _carry(self, call: Call) -> None:
        """Send the call until it is answered or may not be sent again."""
        permit = call.pool.permit()
        try:
            outcome = await self._until_answered(call)
            if outcome == "good":
                call.pool.budget.deposit()
                permit.succeeded()
            elif outcome == "bad":
                permit.failed()
            if outcome != "good":
                call.pool.gave_up()
        except ServiceLost:
            permit.failed()
            raise
        finally:
            permit.ignored()  # a call that was shed or cancelled has no opinion

    async def _until_answered(self, call: Call) -> Outcome:
        while True:
            try:
                return await self._attempt(call)
            except _TryAgain as again:
                call.pool.repeated(again.reason)

    def _may_repeat(self, call: Call, reason: Reason) -> bool:
        if call.answer.has_begun or call.body.is_spent:
            return False
        if reason == "refused":
            return len(call.tried) < _ENDPOINTS and call.pool.has_other(call.tried)
        if call.was_repeated or (reason == "shed" and not call.pool.has_other(call.tried)):
            return False
        if not (reason == "shed" and call.target is None) and not self._may_run_twice(call):
            return False
        call.was_repeated = call.pool.budget.withdraw()
        return call.was_repeated

    def _may_run_twice(self, call: Call) -> bool:
        if call.target is not None:
            return call.method in {"GET", "HEAD"}
        return self._catalogue.may_run_twice(_parsed(call.body.kept))

    async def _attempt(self, call: Call) -> Outcome:
        """Send the call to one endpoint and pass its answer on; return what it says about the service.

        Raises:
            _TryAgain: it should be sent again.
            ServiceLost: there was no answer, or it broke, and the call cannot be repeated.
        """
        pool = call.pool
        endpoint = await pool.choose(call.tried)
        call.tried.append(endpoint)
        began = time.monotonic()
        endpoint.in_flight += 1
        try:
            with _span(call, endpoint) as span:
                async with self._request(call, endpoint, span) as response:
                    span.answered(response.status)
                    return await self._receive(call, endpoint, response, began)
        except Refused as exc:
            raise self._lost(call, endpoint, "refused", exc) from exc
        except Broken as exc:
            raise self._lost(call, endpoint, "broken", exc) from exc
        except TimeoutError:
            raise DeadlineExceeded(f"the {pool.service} service did not answer in time") from None
        finally:
            endpoint.in_flight -= 1
            pool.seconds.observe(time.monotonic() - began)

    def _request(self, call: Call, endpoint: Endpoint, span: ClientSpan) -> Exchange:
        left_s = remaining(math.inf)
        return self._connections.request(
            endpoint.address,
            call.method,
            endpoint.address.path if call.target is None else call.target,
            _with(call.headers, _attempt_headers(endpoint, left_s), span.headers),
            None if call.method in {"GET", "HEAD"} else call.body.content(),
            answer_s=None if left_s == math.inf else left_s + _GRACE_S,
        )

    async def _receive(
        self, call: Call, endpoint: Endpoint, response: Connection, began: float
    ) -> Outcome:
        pool = call.pool
        if response.status == 401 and call.principal is not None:
            # Our own token was refused. Passed on, it would send the client into an OAuth dance.
            log.error("internal_token_refused", service=pool.service)
            raise UpstreamFailed(f"the {pool.service} service refused the gateway")
        was_shed = response.status in _SHED and bool(response.header(b"retry-after"))
        if was_shed and self._may_repeat(call, "shed"):
            raise _TryAgain("shed")
        if response.status >= 500 and not was_shed:
            pool.failed(endpoint)
            await call.answer.pass_on(response)
            return "bad"
        pool.answered(endpoint, time.monotonic() - began)
        await call.answer.pass_on(response)
        return "shed" if was_shed else "good"

    def _lost(
        self, call: Call, endpoint: Endpoint, reason: Reason, exc: Exception
    ) -> _TryAgain | ServiceLost | ClientGone:
        if call.body.is_abandoned:
            return ClientGone()
        log.warning(
            "endpoint_lost",
            service=call.pool.service,
            reason=reason,
            error=type(exc.__cause__ or exc).__name__,
        )
        call.pool.failed(endpoint, is_certain=reason == "refused")
        if self._may_repeat(call, reason):
            return _TryAgain(reason)
        error = ServiceLost(f"the {call.pool.service} service")
        error.may_have_run = reason == "broken"
        return error


def _forwarded(headers: RawHeaders) -> Headers:
    left = staying(_NOT_FORWARDED, headers)
    return [pair for pair in headers if pair[0] not in left]


def _attempt_headers(endpoint: Endpoint, left_s: float) -> Headers:
    host = (b"host", endpoint.address.authority.encode())
    if left_s == math.inf:
        return [host]
    return [host, (_TIMEOUT, b"%d" % max(1, int(left_s * 1000)))]


def _with(headers: Headers, more: Headers, traced: Mapping[str, str]) -> Headers:
    """Return all headers; what our own span says takes the place of what the client's said."""
    if not traced:
        return [*more, *headers]
    ours = [(name.lower().encode(), value.encode()) for name, value in traced.items()]
    names = {name for name, _ in ours}
    return [*more, *ours, *(pair for pair in headers if pair[0] not in names)]


def _span(call: Call, endpoint: Endpoint) -> ClientSpan:
    return ClientSpan(
        call.method,
        lambda: {
            "http.request.method": call.method,
            "server.address": endpoint.address.authority,
            "peer.service": f"fleet-{call.pool.service}",
            "http.request.resend_count": len(call.tried) - 1,
        },
    )


def receive_once(body: bytes) -> Receive:
    """Return a `receive` that gives `body` and whose client never leaves."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if not pending:
            await asyncio.Event().wait()
        return pending.pop()

    return receive


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
