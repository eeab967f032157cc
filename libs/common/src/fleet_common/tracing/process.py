"""The tracing of one process: off, or an open provider that records one span per request served."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
from opentelemetry.context import Context
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    TraceFlags,
    Tracer,
    TraceState,
    set_span_in_context,
)

from fleet_common.settings import ServiceSettings, SettingsError
from fleet_common.tracing.context import TraceContext
from fleet_common.tracing.spans import ServerSpan, Value, error_type, serving

if TYPE_CHECKING:
    from fleet_common.metrics import Metrics
    from fleet_common.tracing.export import Export

_CLOSE_S = 5.0


class Tracing:
    """Records what one process serves, when `settings` name an endpoint."""

    def __init__(self, settings: ServiceSettings, metrics: Metrics, version: str) -> None:
        self._settings = settings
        self._metrics = metrics
        self._version = version
        self._tracer: Tracer | None = None

    @property
    def is_wanted(self) -> bool:
        """Return whether spans will be recorded once this is open."""
        return self._settings.tracing_endpoint is not None

    @property
    def is_on(self) -> bool:
        """Return whether spans are recorded at all."""
        return self._tracer is not None

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[None]:
        """Export spans while the block runs; at its end what is left is sent, for a few seconds at most."""
        if self._settings.tracing_endpoint is None:
            yield
            return
        export = await anyio.to_thread.run_sync(self._open, self._settings.tracing_endpoint)
        self._tracer = export.tracer(self._settings.tracing_sample_ratio)
        try:
            yield
        finally:
            self._tracer = None
            with anyio.move_on_after(_CLOSE_S, shield=True):
                await anyio.to_thread.run_sync(export.close, abandon_on_cancel=True)

    def _open(self, endpoint: str) -> Export:
        try:
            # Here, so that a process without tracing neither needs nor loads the SDK.
            from fleet_common.tracing.export import Export  # noqa: PLC0415
        except ImportError:
            variable = f"{self._settings.prefix()}TRACING_ENDPOINT"
            raise SettingsError(f"{variable} needs `pip install fleet-common[tracing]`") from None
        return Export(endpoint, self._metrics, self._version)

    @contextmanager
    def request(
        self, caller: TraceContext | None, method: str, attributes: Mapping[str, Value]
    ) -> Iterator[tuple[TraceContext | None, ServerSpan | None]]:
        """Record the request that the block serves.

        Args:
            caller: who asks, if that is known.
            method: of HTTP.
            attributes: what else is known before the request is served.

        Yields:
            the trace context for logs and for what is sent on (the caller's own while tracing is off), and the
            span, which is None when this request is not recorded.
        """
        if self._tracer is None:
            yield caller, None
            return
        facts = {"http.request.method": method, **attributes}
        span = self._tracer.start_span(method, _parent(caller), SpanKind.SERVER, facts)
        if not span.get_span_context().is_valid:  # OTEL_SDK_DISABLED
            yield caller, None
            return
        server = ServerSpan(self._tracer, span, method)
        here = TraceContext(server.traceparent, caller.tracestate if caller else None)
        if not span.is_recording():
            yield here, None
            return
        try:
            with serving(server):
                yield here, server
        except BaseException as exc:
            server.failed(error_type(exc))
            raise
        finally:
            span.end()


def _parent(caller: TraceContext | None) -> Context:
    """Return the caller's span as a parent; an empty context when there is none, so that a trace begins here."""
    if caller is None:
        return Context()
    remote = SpanContext(
        caller.trace_id,
        caller.span_id,
        is_remote=True,
        trace_flags=TraceFlags(caller.flags),
        trace_state=TraceState.from_header([caller.tracestate]) if caller.tracestate else None,
    )
    return set_span_in_context(NonRecordingSpan(remote), Context())
