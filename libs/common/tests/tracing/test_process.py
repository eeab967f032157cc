from __future__ import annotations

import subprocess
import sys
import time

import pytest

from fleet_common.metrics import Metrics
from fleet_common.settings import ServiceSettings, SettingsError
from fleet_common.testing import wait_until
from fleet_common.testing.collector import Collector
from fleet_common.tracing import TraceContext, Tracing, export, is_recording

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = f"{PARENT[:-2]}00"


def value(metrics: Metrics, name: str, **labels: str) -> float:
    # Restricted, because the whole registry reads /proc.
    wanted = {"service": "data", **labels}
    families = metrics.registry.restricted_registry([name]).collect()
    samples = [s for family in families for s in family.samples if s.labels == wanted]
    return samples[0].value if samples else 0.0


def tracing_to(url: str, metrics: Metrics, ratio: float = 1.0) -> Tracing:
    settings = ServiceSettings(tracing_endpoint=url, tracing_sample_ratio=ratio)
    return Tracing(settings, metrics, "1.2.3")


async def test_off_the_callers_context_is_passed_on_and_nothing_recorded(metrics: Metrics) -> None:
    tracing = Tracing(ServiceSettings(), metrics, "1")
    caller = TraceContext(PARENT, "v=1")
    async with tracing.opened():
        with tracing.request(caller, "POST", {}) as (here, span):
            assert here is caller
            assert span is None
            assert not is_recording()
        with tracing.request(None, "POST", {}) as (here, _):
            assert here is None


@pytest.mark.timeout(40)  # an interpreter starts
def test_off_the_sdks_tracing_is_never_imported() -> None:
    script = """
import asyncio, sys
from fleet_common.metrics import Metrics
from fleet_common.settings import ServiceSettings
from fleet_common.tracing import Tracing
async def main():
    async with Tracing(ServiceSettings(), Metrics("data"), "1").opened():
        assert not [m for m in sys.modules if m.startswith(("opentelemetry.sdk.trace", "opentelemetry.exporter"))]
asyncio.run(main())
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=30)


async def test_the_callers_span_is_the_parent_and_its_tracestate_travels_on(
    tracing: Tracing, spans: Collector
) -> None:
    async with tracing.opened():
        with tracing.request(TraceContext(PARENT, "v=1"), "POST", {}) as (here, _):
            assert here is not None
            assert here.tracestate == "v=1"
    (span,) = await spans.wait_for(1)
    assert (span.trace_id, span.parent_id) == (PARENT[3:35], PARENT[36:52])
    assert here.traceparent == f"00-{span.trace_id}-{span.span_id}-01"  # the flags as they came
    assert span.service == "fleet-data"


@pytest.mark.parametrize(
    ("caller", "ratio", "recorded"),
    [(PARENT, 0.0, True), (UNSAMPLED, 1.0, False), (None, 0.0, False), (None, 1.0, True)],
)
async def test_the_caller_decides_what_is_recorded_and_the_ratio_decides_the_rest(
    spans: Collector, metrics: Metrics, caller: str | None, ratio: float, recorded: bool
) -> None:
    tracing = tracing_to(spans.url, metrics, ratio)
    async with tracing.opened():
        with tracing.request(TraceContext.of(caller, None), "POST", {}) as (here, span):
            assert (span is not None, is_recording()) == (recorded, recorded)
    assert here is not None  # logs and errors have an id either way
    assert bool(here.flags & 1) is recorded
    assert len(spans.spans) == int(recorded)


async def test_spans_are_sent_while_the_process_runs(tracing: Tracing, spans: Collector) -> None:
    async with tracing.opened():
        with tracing.request(None, "POST", {}):
            pass
        await spans.wait_for(1)


async def test_a_collector_that_is_away_delays_nothing_and_what_is_lost_is_counted(
    metrics: Metrics, unused_tcp_port: int
) -> None:
    tracing = tracing_to(f"http://127.0.0.1:{unused_tcp_port}", metrics)
    async with tracing.opened():
        started = time.perf_counter()
        for _ in range(100):
            with tracing.request(None, "POST", {}):
                pass
        assert time.perf_counter() - started < 4
        closing = time.perf_counter()
    assert time.perf_counter() - closing < 9
    assert value(metrics, "mcp_spans_dropped_total", reason="export_failed") == 100


async def test_a_full_queue_drops_and_counts(
    spans: Collector, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "_QUEUE", 3)
    monkeypatch.setattr(export, "_BATCH", 3)
    monkeypatch.setattr(export, "_DELAY_MS", 60_000)
    spans.refusal = 400
    tracing = tracing_to(spans.url, metrics)
    async with tracing.opened():
        for _ in range(20):
            with tracing.request(None, "POST", {}):
                pass
        dropped = value(metrics, "mcp_spans_dropped_total", reason="queue_full")
        assert dropped >= 14  # the exporter's thread may have taken one batch meanwhile
    lost = value(metrics, "mcp_spans_dropped_total", reason="export_failed")
    assert dropped + lost == 20


async def test_a_collector_that_comes_back_gets_the_next_spans(
    spans: Collector, metrics: Metrics
) -> None:
    spans.refusal = 400
    tracing = tracing_to(spans.url, metrics)
    async with tracing.opened():
        with tracing.request(None, "POST", {}):
            pass

        async def is_lost() -> bool:
            return value(metrics, "mcp_spans_dropped_total", reason="export_failed") == 1

        await wait_until(is_lost)
        spans.refusal = None
        with tracing.request(None, "POST", {}):
            pass
        await spans.wait_for(1)


def test_an_endpoint_with_a_path_is_taken_as_it_is() -> None:
    assert export._traces_url("http://c:4318/") == "http://c:4318/v1/traces"
    assert export._traces_url("http://c:4318") == "http://c:4318/v1/traces"
    assert export._traces_url("https://c/otlp/v1/traces") == "https://c/otlp/v1/traces"


async def test_an_endpoint_without_the_sdk_is_a_sentence(
    metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "fleet_common.tracing.export")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(SettingsError, match=r"FLEET_TRACING_ENDPOINT.*fleet-common\[tracing\]"):
        async with tracing_to("http://127.0.0.1:1", metrics).opened():
            pass


@pytest.mark.parametrize("endpoint", ["collector:4318", "https://user:pw@c", "ftp://c"])
def test_an_endpoint_that_is_no_plain_address_stops_the_start(endpoint: str) -> None:
    with pytest.raises(SettingsError, match="TRACING_ENDPOINT"):
        ServiceSettings.read({"FLEET_TRACING_ENDPOINT": endpoint})
