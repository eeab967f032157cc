"""The two kinds of spans: a request that is served, and a request of ours to somebody else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Self, TypeAlias

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, set_span_in_context

from fleet_common.errors import FleetError
from fleet_common.logs import current_traceparent
from fleet_common.redaction import redact_text

Value: TypeAlias = str | int | bool | float

_TARGETS = {"tools/call": "gen_ai.tool.name", "prompts/get": "gen_ai.prompt.name"}


class ServerSpan:
    """The span of the request that is being served; `Tracing.request` opens and ends it."""

    __slots__ = ("_is_described", "_is_failed", "_name", "_span", "_tracer")

    def __init__(self, tracer: Tracer, span: Span, name: str) -> None:
        self._tracer = tracer
        self._span = span
        self._name = name
        self._is_described = False
        self._is_failed = False

    @property
    def traceparent(self) -> str:
        """Return the header that makes this span the parent of what it is sent to."""
        return _traceparent(self._span)

    def describe(self, method: str, target: str | None) -> None:
        """Say which MCP request this is; both must come from closed sets, such as our tools."""
        self._is_described = True
        self._span.set_attribute("mcp.method.name", method)
        if target and method in _TARGETS:
            self._span.update_name(f"{method} {target}")
            self._span.set_attribute(_TARGETS[method], target)
        else:
            self._span.update_name(method)

    def answered(self, status: int, route: str | None) -> None:
        """Note the HTTP status, and the route's template as the name of what nobody described."""
        self._span.set_attribute("http.response.status_code", status)
        if route:
            self._span.set_attribute("http.route", route)
            if not self._is_described:
                self._span.update_name(f"{self._name} {route}")
        if status >= 500 and not self._is_failed:
            self.failed(str(status))

    def failed(self, error_type: str) -> None:
        """Note that the request failed, by a code such as `not_found`."""
        self._is_failed = True
        self._span.set_attribute("error.type", error_type)
        self._span.set_status(StatusCode.ERROR)

    def child(self, name: str, began_ns: int) -> Span:
        """Return a started span for a request of ours that serves this one."""
        context = set_span_in_context(self._span, Context())
        return self._tracer.start_span(name, context, SpanKind.CLIENT, start_time=began_ns)


_serving: ContextVar[ServerSpan | None] = ContextVar("fleet_server_span", default=None)


def is_recording() -> bool:
    """Return whether spans of the current request are recorded; ask before work that only they need."""
    return _serving.get() is not None


@contextmanager
def serving(span: ServerSpan) -> Iterator[None]:
    """Make `span` the parent of the client spans inside the block."""
    token = _serving.set(span)
    try:
        yield
    finally:
        _serving.reset(token)


def describe(method: str, target: str | None = None) -> None:
    """Say which MCP request is being served.

    Args:
        method: from the closed set of the protocol.
        target: the tool or prompt, once it is known that there is one; of other methods it is not shown, because
            a URI may name somebody.
    """
    span = _serving.get()
    if span is not None:
        span.describe(method, target)


def failed(error_type: str) -> None:
    """Note on the current request's span that it failed, by a code such as `not_found`."""
    span = _serving.get()
    if span is not None:
        span.failed(error_type)


class ClientSpan:
    """A request of ours to a dependency, for the time of a `with` block; nothing when none is recorded.

    ```python
    with ClientSpan("GET", lambda: {"server.address": host}) as span:
        headers["traceparent"] = span.traceparent
        span.answered((await send()).status)
    ```
    """

    __slots__ = ("_attributes", "_began_ns", "_is_failed", "_name", "_span")

    def __init__(
        self,
        name: str,
        attributes: Callable[[], Mapping[str, Value]],
        *,
        began_ns: int | None = None,
    ) -> None:
        self._name = name
        self._attributes = attributes
        self._began_ns = began_ns
        self._span: Span | None = None
        self._is_failed = False

    def __enter__(self) -> Self:
        """Start the span if the request being served is recorded."""
        parent = _serving.get()
        if parent is not None:
            self._span = parent.child(self._name, self._began_ns or time.time_ns())
            self._span.set_attributes(_clean(self._attributes()))
        return self

    @property
    def traceparent(self) -> str | None:
        """Return the header for the other side: this span's, else the current request's."""
        return _traceparent(self._span) if self._span is not None else current_traceparent()

    @property
    def headers(self) -> dict[str, str]:
        """Return what another service of the fleet is told; outside APIs get `traceparent` alone."""
        traceparent = self.traceparent
        if traceparent is None:
            return {}
        state = self._span.get_span_context().trace_state.to_header() if self._span else ""
        return {"traceparent": traceparent, **({"tracestate": state} if state else {})}

    def answered(self, status: int) -> None:
        """Note the HTTP status; from 400 on the request failed (semantic conventions, "HTTP client spans")."""
        if self._span is not None:
            self._span.set_attribute("http.response.status_code", status)
            if status >= 400:
                self.failed(str(status))

    def failed(self, error_type: str) -> None:
        """Note that the other side failed, and how; the first word counts."""
        if self._span is not None and not self._is_failed:
            self._is_failed = True
            self._span.set_attribute("error.type", error_type)
            self._span.set_status(StatusCode.ERROR)

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        """End the span; of an exception only its code or class is noted, because texts carry values."""
        if self._span is None:
            return
        if error is not None:
            self.failed(error_type(error))
        self._span.end()


def error_type(error: BaseException) -> str:
    """Return what `error.type` says about an exception."""
    if isinstance(error, FleetError):
        return error.code
    return "cancelled" if isinstance(error, asyncio.CancelledError) else type(error).__qualname__


def _clean(attributes: Mapping[str, Value]) -> dict[str, Value]:
    return {k: redact_text(v) if isinstance(v, str) else v for k, v in attributes.items()}


def _traceparent(span: Span) -> str:
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"
