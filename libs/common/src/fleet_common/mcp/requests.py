"""The outermost layers: every request has an id and, if its client or we trace, a trace."""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Mapping
from typing import Any

import structlog
from fastmcp.server.middleware import CallNext, Middleware, MiddlewareContext
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fleet_common.logs import request_context
from fleet_common.mcp.body import ClientGone, peek_body
from fleet_common.mcp.headers import first_values, header, told_besides
from fleet_common.tracing import ServerSpan, TraceContext, Tracing

log = structlog.get_logger()

_SAFE_ID = re.compile(rb"[A-Za-z0-9._-]{8,64}")
_METHODS = {
    *("initialize", "ping", "server/discover", "completion/complete", "subscriptions/listen"),
    *("tools/list", "tools/call", "prompts/list", "prompts/get"),
    *("resources/list", "resources/templates/list", "resources/read"),
    *("tasks/get", "tasks/update", "tasks/cancel"),
}
_UNTRACED = {"/livez", "/readyz", "/startupz", "/metrics"}
_PEEK_BYTES = 64 * 1024  # what uvicorn holds of a body anyway before anybody reads it


class RequestIds:
    """Binds a request's ids to each of its log lines, and records its span."""

    def __init__(self, app: ASGIApp, *, tracing: Tracing) -> None:
        self._app = app
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Bind the ids and pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        named = first_values(scope)
        request_id = _offered_id(named) or os.urandom(8).hex()
        caller = _trace_in(named)
        if caller is None and scope["method"] == "POST" and scope["path"].endswith("/mcp"):
            # Clients that speak MCP put it there, and not every one into a header as well; the gateway passes bodies
            # on unread, and every answer must name the trace, also those that are given before a body is read.
            receive = await peek_body(receive, size_bytes=_PEEK_BYTES)
            caller = TraceContext.in_body(receive.body)
        if not self._tracing.is_on or scope["path"] in _UNTRACED:
            await self._pass_on(scope, receive, send, request_id, (caller, None))
            return
        facts = {"http.request.method": scope["method"]}
        with self._tracing.request(caller, scope["method"], facts) as (trace, span):
            if span is not None and (method := header(scope, b"mcp-method")) in _METHODS:
                span.describe(method, None)  # whoever knows the tool adds it
            await self._pass_on(scope, receive, send, request_id, (trace, span))

    async def _pass_on(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        request_id: str,
        traced: tuple[TraceContext | None, ServerSpan | None],
    ) -> None:
        trace, span = traced
        told = told_besides(scope)
        told.append((b"x-request-id", request_id.encode()))
        if trace is not None:
            told.append((b"x-trace-id", trace.traceparent[3:35].encode()))

        def send_with_ids(message: Message) -> Awaitable[None]:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *told]
                if span is not None:
                    span.answered(message["status"], _route(scope))
            return send(message)

        traceparent = trace.traceparent if trace else None
        with request_context(request_id=request_id, traceparent=traceparent):
            try:
                await self._app(scope, receive, send_with_ids)
            except ClientGone:
                log.info("client_gone")


class StdioRequests(Middleware):
    """The same for requests that come over stdio; put it before every other middleware."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    async def on_request(
        self, context: MiddlewareContext[Any], call_next: CallNext[Any, Any]
    ) -> Any:
        """Bind the ids and pass the request on."""
        request = context.fastmcp_context.request_context if context.fastmcp_context else None
        meta = (request.meta if request else None) or {}
        caller = TraceContext.of(*(str(meta.get(k, "")) for k in ("traceparent", "tracestate")))
        facts = {"network.transport": "pipe"}
        with (
            self._tracing.request(caller, context.method or "request", facts) as (trace, _),
            request_context(traceparent=trace.traceparent if trace else None),
        ):
            return await call_next(context)


def _offered_id(named: Mapping[bytes, bytes]) -> str:
    """Return the request id that the client chose, empty when there is none or it is not safe to repeat."""
    offered = named.get(b"x-request-id")
    return offered.decode() if offered and _SAFE_ID.fullmatch(offered) else ""


def _trace_in(named: Mapping[bytes, bytes]) -> TraceContext | None:
    if (parent := named.get(b"traceparent")) is None:
        return None
    state = named.get(b"tracestate", b"")
    return TraceContext.of(parent.decode("latin-1"), state.decode("latin-1"))


def _route(scope: Scope) -> str | None:
    """Return the path's template: a path itself may hold an id that opens something."""
    return getattr(scope.get("route"), "path", None)
