from __future__ import annotations

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from fleet_common.durations import DurationsFamily

BOUNDS = (0.1, 0.25, 1.0, 30.0)
SECONDS = (0.0, 0.1, 0.1000001, 0.25, 0.7, 30.0, 31.5)


def scraped(
    registry: CollectorRegistry,
) -> set[tuple[str, str, tuple[tuple[str, str], ...], float]]:
    return {
        (family.type, sample.name, tuple(sorted(sample.labels.items())), sample.value)
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def test_a_scrape_finds_what_the_library_itself_would_have_exported() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    own = DurationsFamily("wait_seconds", "Time.", ("service", "dep"), BOUNDS)
    ours.register(own)
    library = Histogram(
        "wait_seconds", "Time.", ("service", "dep"), buckets=BOUNDS, registry=theirs
    )
    for seconds in SECONDS:
        for family in (own, library):
            family.labels("data", "github").observe(seconds)
            family.labels("data", "slack").observe(seconds * 2)
    assert scraped(ours) == scraped(theirs)
    assert scraped(ours)


def test_a_series_is_made_once() -> None:
    family = DurationsFamily("wait_seconds", "Time.", ("service",), BOUNDS)
    assert family.labels("data") is family.labels("data")
    assert family.labels("data") is not family.labels("aiml")
