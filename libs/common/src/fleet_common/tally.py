"""A counter for Prometheus that takes no lock: one of its own costs each request 1 % of its way through the layers."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector


class Tally(Collector):
    """One series of a counter, in a registry that scrapes it from a thread; whoever counts is on one event loop.

    Args:
        name: ends in `_total`.
        text: what it says.
        service: the value of its only label.
    """

    def __init__(self, name: str, text: str, service: str) -> None:
        self._name = name
        self._text = text
        self._service = service
        self._count = 0

    def inc(self) -> None:
        """Count one."""
        self._count += 1

    def collect(self) -> Iterator[Metric]:
        """Return what a scrape finds."""
        family = CounterMetricFamily(self._name, self._text, labels=("service",))
        family.add_metric((self._service,), self._count)
        yield family
