"""The tracing of one process: off, or an open provider that records one span per request served."""

from __future__ import annotations

import random
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
        self._tracer = export.tracer()
        try:
            yield
        finally:
            self._tracer = None
            with anyio.move_on_after(_CLOSE_S, shield=True):
                await anyio.to_thread.run_sync(export.close, abandon_on_cancel=True)

    def _is_sampled(self, caller: TraceContext | None) -> bool:
        # Decided here and not by the SDK's samplers: a request that is not recorded then costs 5 us, not 40.
        if caller is not None:
            return bool(caller.flags & TraceFlags.SAMPLED)
        return random.random() < self._settings.tracing_sample_ratio  # noqa: S311 - chooses, hides nothing

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
        self, caller: TraceContext | None, name: str, attributes: Mapping[str, Value]
    ) -> Iterator[tuple[TraceContext | None, ServerSpan | None]]:
        """Record the request that the block serves.

        Args:
            caller: who asks, if that is known.
            name: from a closed set, until it is known what the request is.
            attributes: what else is known before the request is served.

        Yields:
            the trace context for logs and for what is sent on (the caller's own while tracing is off), and the
            span, which is None when this request is not recorded.
        """
        if self._tracer is None:
            yield caller, None
            return
        if not self._is_sampled(caller):
            yield caller or _unrecorded(), None
            return
        span = self._tracer.start_span(name, _parent(caller), SpanKind.SERVER, attributes)
        if not span.is_recording():  # OTEL_SDK_DISABLED
            yield caller, None
            return
        server = ServerSpan(self._tracer, span, name)
        here = TraceContext(server.traceparent, caller.tracestate if caller else None)
        try:
            with serving(server):
                yield here, server
        except BaseException as exc:
            server.failed(error_type(exc))
            raise
        finally:
            span.end()


def _unrecorded() -> TraceContext:
    """Return the context of a trace that begins here and that nobody records: an id for logs and errors."""
    trace_id, span_id = random.getrandbits(128) or 1, random.getrandbits(64) or 1
    return TraceContext(f"00-{trace_id:032x}-{span_id:016x}-00")


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
