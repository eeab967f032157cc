"""Tracing: one span per hop, from the client's `traceparent` through every service to SQL, HTTP and Redis.

Off unless `tracing_endpoint` is set; then nothing of the OpenTelemetry SDK is imported and a span that is not
recorded costs one look at a context variable. Spans carry names from closed sets, statuses and codes: never
arguments, SQL, URLs, tokens or the text of an exception.
"""

from fleet_common.tracing.context import TraceContext
from fleet_common.tracing.process import Tracing
from fleet_common.tracing.spans import (
    ClientSpan,
    ServerSpan,
    describe,
    error_type,
    failed,
    is_recording,
)

__all__ = [
    "ClientSpan",
    "ServerSpan",
    "TraceContext",
    "Tracing",
    "describe",
    "error_type",
    "failed",
    "is_recording",
]
