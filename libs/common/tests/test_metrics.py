from __future__ import annotations

import math
from collections.abc import Iterable

import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families

from fleet_common.metrics import LATENCY_BUCKETS_S, Metrics

REQUIRED = {
    "mcp_requests_started_total",
    "mcp_admission_waiting",
    "mcp_admission_inflight",
    "mcp_admission_limit",
    "mcp_service_seconds_sum",
    "mcp_service_seconds_count",
    "mcp_queue_seconds_bucket",
    "mcp_request_duration_seconds_bucket",
    "mcp_build_info",
}


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("data", "1.2.3")


def scrape(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return every series as a scraper reads it."""
    body, _ = metrics.render()
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return scrape(metrics)[name, frozenset({"service": "data", **labels}.items())]


def names(series: Iterable[tuple[str, frozenset[tuple[str, str]]]]) -> set[str]:
    return {name for name, _ in series}


def test_an_idle_service_already_exports_what_scaling_reads(metrics: Metrics) -> None:
    series = scrape(metrics)
    assert names(series) >= REQUIRED
    assert "process_cpu_seconds_total" in names(series)
    for name, labels in series:
        if name.startswith("mcp_"):
            assert ("service", "data") in labels


def test_observations_appear_under_the_published_names(metrics: Metrics) -> None:
    metrics.requests_started.inc()
    metrics.admission_waiting.set(3)
    metrics.admission_inflight.inc()
    metrics.admission_limit.set(64)
    metrics.admission_shed.labels(reason="queue_full").inc()
    metrics.service_seconds.observe(0.04)
    metrics.queue_seconds.observe(0.01)
    metrics.request_duration_seconds.observe(0.05)
    metrics.downstream_seconds.labels(dep="github").observe(0.2)
    metrics.tool_calls.labels(tool="crm_search", outcome="ok").inc()

    assert value(metrics, "mcp_requests_started_total") == 1
    assert value(metrics, "mcp_admission_waiting") == 3
    assert value(metrics, "mcp_admission_inflight") == 1
    assert value(metrics, "mcp_admission_limit") == 64
    assert value(metrics, "mcp_admission_shed_total", reason="queue_full") == 1
    assert value(metrics, "mcp_service_seconds_sum") == 0.04
    assert value(metrics, "mcp_queue_seconds_count") == 1
    assert value(metrics, "mcp_request_duration_seconds_bucket", le="0.05") == 1
    assert value(metrics, "mcp_downstream_seconds_bucket", dep="github", le="0.15") == 0
    assert value(metrics, "mcp_downstream_seconds_bucket", dep="github", le="0.25") == 1
    assert value(metrics, "mcp_tool_calls_total", tool="crm_search", outcome="ok") == 1


def test_the_build_is_named(metrics: Metrics) -> None:
    [labels] = [dict(labels) for name, labels in scrape(metrics) if name == "mcp_build_info"]
    assert labels["version"] == "1.2.3"
    assert labels["python"].startswith("3.")


@pytest.mark.parametrize("objective_s", [0.25, 0.5, 0.6, 2.0])
def test_each_objective_is_a_bucket_edge(objective_s: float) -> None:
    assert objective_s in LATENCY_BUCKETS_S


def test_nothing_but_what_is_read_is_exported(metrics: Metrics) -> None:
    metrics.requests_started.inc()
    assert not [name for name in names(scrape(metrics)) if name.endswith("_created")]


def test_a_child_is_made_once(metrics: Metrics) -> None:
    first = metrics.tool_calls.labels(tool="crm_get", outcome="ok")
    assert metrics.tool_calls.labels(outcome="ok", tool="crm_get") is first


@pytest.mark.parametrize("labels", [{}, {"dep": "x", "extra": "y"}, {"other": "x"}])
def test_wrong_labels_are_refused(metrics: Metrics, labels: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="labels must be"):
        metrics.downstream_seconds.labels(**labels)


def test_two_services_do_not_mix(metrics: Metrics) -> None:
    other = Metrics("aiml")
    other.requests_started.inc()
    assert value(metrics, "mcp_requests_started_total") == 0


def test_a_gauge_at_scrape_shows_the_value_of_that_moment(metrics: Metrics) -> None:
    queue = [1, 2]
    metrics.gauge_at_scrape("aiml_queue_depth", "Texts.", lambda: len(queue), {"engine": "embed"})
    metrics.gauge_at_scrape("aiml_queue_depth", "Texts.", lambda: 7, {"engine": "rerank"})

    assert value(metrics, "aiml_queue_depth", engine="embed") == 2
    queue.clear()
    assert value(metrics, "aiml_queue_depth", engine="embed") == 0
    assert value(metrics, "aiml_queue_depth", engine="rerank") == 7


def test_a_gauge_at_scrape_needs_no_labels(metrics: Metrics) -> None:
    metrics.gauge_at_scrape("pool_idle", "Idle connections.", lambda: 4)
    assert value(metrics, "pool_idle") == 4


def test_a_broken_gauge_leaves_the_others_readable(metrics: Metrics) -> None:
    def broken() -> float:
        raise RuntimeError("engine is gone")

    metrics.gauge_at_scrape("broken", "Broken.", broken)
    with structlog.testing.capture_logs() as events:
        assert math.isnan(value(metrics, "broken"))
    assert value(metrics, "mcp_admission_waiting") == 0
    assert [event["event"] for event in events] == ["gauge_unreadable"]


def test_a_name_is_taken_once(metrics: Metrics) -> None:
    with pytest.raises(ValueError, match="Duplicated"):
        metrics.gauge_at_scrape("mcp_admission_waiting", "Taken.", lambda: 0)


def test_the_content_type_names_the_exposition_format(metrics: Metrics) -> None:
    _, content_type = metrics.render()
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"


def test_what_is_alerted_on_begins_at_zero(metrics: Metrics) -> None:
    for reason in ("deadline", "queue_full"):
        assert value(metrics, "mcp_admission_shed_total", reason=reason) == 0
    for decision in ("asked", "approve", "reject"):
        assert value(metrics, "mcp_approvals_total", decision=decision) == 0
