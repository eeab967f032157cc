"""A real OTLP/HTTP collector for tests: it takes protobuf on a socket and keeps the spans.

```python
async with collector() as spans:
    settings = ServiceSettings(tracing_endpoint=spans.url)
```
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from fleet_common.testing.waiting import wait_until


@dataclass(frozen=True, slots=True)
class Recorded:
    """One span as it came over the wire."""

    service: str
    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    tracestate: str
    attributes: dict[str, str | int]
    is_error: bool


class Collector:
    """What has arrived.

    Attributes:
        url: what `tracing_endpoint` should say.
        raw: the bodies, for a search for what must not be in them.
        refusal: a status to answer with instead of taking the spans.
    """

    def __init__(self) -> None:
        self.url = ""
        self.raw: list[bytes] = []
        self.spans: list[Recorded] = []
        self.refusal: int | None = None

    async def handle(self, request: web.Request) -> web.Response:
        """Take one batch."""
        if self.refusal is not None:
            return web.Response(status=self.refusal)
        body = await request.read()
        self.raw.append(body)
        self.spans += _spans(ExportTraceServiceRequest.FromString(body))
        return web.Response(content_type="application/x-protobuf")

    async def wait_for(self, count: int) -> list[Recorded]:
        """Return the spans once there are `count`."""

        async def have_come() -> bool:
            return len(self.spans) >= count

        await wait_until(have_come)
        return self.spans


def _spans(batch: ExportTraceServiceRequest) -> list[Recorded]:
    return [
        Recorded(
            service=str(_values(resource.resource.attributes)["service.name"]),
            name=span.name,
            kind=span.kind,
            trace_id=span.trace_id.hex(),
            span_id=span.span_id.hex(),
            parent_id=span.parent_span_id.hex(),
            tracestate=span.trace_state,
            attributes=_values(span.attributes),
            is_error=span.status.code == 2,
        )
        for resource in batch.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def _values(pairs: Iterable[KeyValue]) -> dict[str, str | int]:
    return {pair.key: pair.value.string_value or pair.value.int_value for pair in pairs}


@asynccontextmanager
async def collector() -> AsyncIterator[Collector]:
    """Serve a collector on a free loopback port while the block runs."""
    spans = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", spans.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    spans.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield spans
    finally:
        await runner.cleanup()
