"""Sends spans as OTLP over HTTP, from a thread of its own and from a bounded queue: no call waits for a collector.

What does not fit or is not accepted is dropped and counted. The collector's credentials and further resource
attributes come from OpenTelemetry's own variables, such as `OTEL_EXPORTER_OTLP_HEADERS`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from urllib.parse import urlsplit

import structlog
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Tracer

from fleet_common.metrics import Metrics

log = structlog.get_logger()

# About 1.5 KiB a span: 12 MiB at most.
_QUEUE = 8192
_BATCH = 512
_DELAY_MS = 1000
_TIMEOUT_S = 3.0
# It logs every attempt with the collector's address; lost spans are one line and a number here.
logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)


class Export:
    """The way of spans out of one process."""

    def __init__(self, endpoint: str, metrics: Metrics, version: str) -> None:
        self._resource = Resource.create(
            {
                "service.name": f"fleet-{metrics.service}",
                "service.namespace": "fleet",
                "service.version": version,
            }
        )
        exporter = OTLPSpanExporter(endpoint=_traces_url(endpoint), timeout=_TIMEOUT_S)
        self._sender = _CountingExporter(exporter, metrics)
        self._queue = _BoundedQueue(self._sender, metrics)
        self._provider: TracerProvider | None = None

    def tracer(self) -> Tracer:
        """Return the tracer; it records every span it is asked for."""
        self._provider = TracerProvider(
            sampler=ALWAYS_ON,
            resource=self._resource,
            shutdown_on_exit=False,
        )
        self._provider.add_span_processor(self._queue)
        return self._provider.get_tracer("fleet_common")

    def close(self) -> None:
        """Send what is left, once; blocks, so call it in a thread."""
        self._sender.is_closing = True
        self._queue.shutdown()


class _CountingExporter(SpanExporter):
    """Exports through another exporter and counts what became of the spans."""

    def __init__(self, inner: SpanExporter, metrics: Metrics) -> None:
        self._inner = inner
        self._exported = metrics.counter(
            "mcp_spans_exported_total", "Spans that the collector accepted."
        ).labels()
        self.dropped = metrics.counter(
            "mcp_spans_dropped_total", "Spans that never reached the collector.", "reason"
        )
        self.taken = 0
        self.is_closing = False
        self._is_away = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch; while closing, a collector that failed once is not asked again."""
        self.taken += len(spans)
        lost = self.is_closing and self._is_away
        result = SpanExportResult.FAILURE if lost else self._inner.export(spans)
        was_away, self._is_away = self._is_away, result is not SpanExportResult.SUCCESS
        if self._is_away:
            self.dropped.labels(reason="export_failed").inc(len(spans))
            if not was_away:
                log.warning("spans_lost", spans=len(spans))
        else:
            self._exported.inc(len(spans))
        return result

    def shutdown(self) -> None:
        """Close the connections."""
        self._inner.shutdown()


class _BoundedQueue(SpanProcessor):
    """Batches spans for the exporter's thread; a span that does not fit is counted and forgotten."""

    def __init__(self, sender: _CountingExporter, metrics: Metrics) -> None:
        self._sender = sender
        self._batches = BatchSpanProcessor(
            sender,
            max_queue_size=_QUEUE,
            max_export_batch_size=_BATCH,
            schedule_delay_millis=_DELAY_MS,
        )
        self._accepted = (
            0  # written by the event loop alone, as `taken` is by the exporter's thread
        )
        metrics.gauge_at_scrape(
            "mcp_spans_waiting", "Spans that wait for export.", lambda: self._waiting
        )

    @property
    def _waiting(self) -> int:
        return self._accepted - self._sender.taken

    def on_end(self, span: ReadableSpan) -> None:
        """Queue the span."""
        if self._waiting >= _QUEUE:
            self._sender.dropped.labels(reason="queue_full").inc()
            return
        self._accepted += 1
        self._batches.on_end(span)

    def shutdown(self) -> None:
        """Send what waits and end the thread."""
        self._batches.shutdown()  # type: ignore[no-untyped-call]  # the SDK left it so


def _traces_url(endpoint: str) -> str:
    """Return the address of the traces: OTLP's path is added to a bare host, and any other path is taken as it is."""
    return endpoint if urlsplit(endpoint).path.strip("/") else f"{endpoint.rstrip('/')}/v1/traces"
