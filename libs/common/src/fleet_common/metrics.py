"""Metrics: the numbers every service exports, under the names the scaling policy reads.

One `Metrics` object per process part owns its registry, so two services in one process (a test) do
not mix. Every series carries `service`. Children are made once and kept: an observation then costs
1-3 us instead of a label look-up under prometheus_client's lock.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

import prometheus_client
import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from fleet_common.durations import Durations, DurationsFamily
from fleet_common.tally import Tally

log = structlog.get_logger()

MetricT = TypeVar("MetricT")

# A quantile is interpolated inside one bucket, so its error is the bucket's width. The steps are
# 1.2-2.5x, narrowest around the objectives (250 ms data, 500 ms gateway, 600 ms aiml, 2 s devops), each of
# which is an edge itself: "share of calls within the objective" is then exact. 1 ms is a cached answer, 60 s
# a long wait; what takes longer runs as a task and is not a call any more.
LATENCY_BUCKETS_S = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.4, 0.5),
    *(0.6, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0),
)


SHED_REASONS = ("deadline", "queue_full")
"""Why admission turns a call away."""


class Family(Generic[MetricT]):
    """A metric with labels of its own besides `service`; hands out one child per combination."""

    def __init__(self, make: Callable[..., MetricT], service: str, names: Sequence[str]) -> None:
        self._make = make
        self._service = service
        self._names = tuple(names)
        self._children: dict[tuple[str, ...], MetricT] = {}

    def labels(self, **labels: str) -> MetricT:
        """Return the child for exactly these labels, as `family.labels(dep="github")`.

        Label values must come from a small closed set: each new one is a new time series.

        Raises:
            ValueError: a label is missing or unknown.
        """
        if labels.keys() != set(self._names):
            raise ValueError(f"labels must be {self._names}, not {tuple(labels)}")
        key = tuple(labels[name] for name in self._names)
        child = self._children.get(key)
        if child is None:
            child = self._make(self._service, *key)
            self._children[key] = child
        return child


class Metrics:
    """The metrics of one service; the attributes are the series without `mcp_` and `_total`."""

    def __init__(self, service: str, version: str = "unknown") -> None:
        # The library has only a process-wide switch for the `_created` series, which double what is
        # scraped and which nothing here reads. It carries no annotations.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        self.service = service
        self.registry = CollectorRegistry()
        self._scraped: dict[str, Family[Gauge]] = {}
        self._describe_process(version)
        self._define_admission()
        self._define_calls()

    def _describe_process(self, version: str) -> None:
        prometheus_client.ProcessCollector(registry=self.registry)
        prometheus_client.GCCollector(registry=self.registry)
        self.gauge(
            "mcp_build_info", "1, with what is running as labels.", "version", "python"
        ).labels(version=version, python=platform.python_version()).set(1)

    def _define_admission(self) -> None:
        self.requests_started = Tally(
            "mcp_requests_started_total",
            "Calls that arrived at admission, shed ones included.",
            self.service,
        )
        self.registry.register(self.requests_started)
        self.admission_waiting = self.gauge(
            "mcp_admission_waiting", "Calls waiting for a slot: the queue depth that scaling reads."
        ).labels()
        self.admission_inflight = self.gauge("mcp_admission_inflight", "Calls in a slot.").labels()
        self.admission_limit = self.gauge("mcp_admission_limit", "Slots of this process.").labels()
        self.admission_shed = self.counter(
            "mcp_admission_shed_total", "Calls turned away at admission.", "reason"
        )
        for reason in SHED_REASONS:  # from the start, or a rate would not see the first ones
            self.admission_shed.labels(reason=reason)

    def _define_calls(self) -> None:
        self.service_seconds = self.histogram(
            "mcp_service_seconds", "Time a call spent in its slot."
        ).labels()
        self.queue_seconds = self.histogram(
            "mcp_queue_seconds", "Time a call waited for its slot."
        ).labels()
        self.request_duration_seconds = self.histogram(
            "mcp_request_duration_seconds",
            "Waiting and service together: what the objective is on.",
        ).labels()
        self.downstream_seconds = self.histogram(
            "mcp_downstream_seconds", "Time of one outbound attempt to a dependency.", "dep"
        )
        self.tool_calls = self.counter(
            "mcp_tool_calls_total",
            "Tool calls by outcome: ok or the error's code.",
            "tool",
            "outcome",
        )
        self.answer_chars = self.counter(
            "mcp_tool_answer_chars_total",
            "Characters of text that tools answered; about four make a token.",
            "tool",
        )
        self.approvals = self.counter(
            "mcp_approvals_total",
            "Questions to people about calls: asked once for each try, then approve or reject.",
            "decision",
        )
        for decision in ("asked", "approve", "reject"):
            self.approvals.labels(decision=decision)

    def counter(self, name: str, help: str, *labels: str) -> Family[Counter]:  # noqa: A002 - as in prometheus_client
        """Return a new counter; its name ends in `_total`."""
        metric = Counter(name, help, ("service", *labels), registry=self.registry)
        return Family(metric.labels, self.service, labels)

    def gauge(self, name: str, help: str, *labels: str) -> Family[Gauge]:  # noqa: A002 - as above
        """Return a new gauge that is set by its owner."""
        metric = Gauge(name, help, ("service", *labels), registry=self.registry)
        return Family(metric.labels, self.service, labels)

    def histogram(self, name: str, help: str, *labels: str) -> Family[Durations]:  # noqa: A002 - as above
        """Return a new histogram of seconds, in `LATENCY_BUCKETS_S`."""
        metric = DurationsFamily(name, help, ("service", *labels), LATENCY_BUCKETS_S)
        self.registry.register(metric)
        return Family(metric.labels, self.service, labels)

    def gauge_at_scrape(
        self,
        name: str,
        help: str,  # noqa: A002 - as above
        read: Callable[[], float],
        labels: Mapping[str, str] | None = None,
    ) -> None:
        """Add a gauge whose value is asked for at each scrape: it is never stale and costs nothing else.

        Several calls with one name and other label values make one family, as in
        `aiml_queue_depth{engine="embed"}`. `read` runs in the scrape's thread and must answer at
        once; when it raises, the error is logged and this one series becomes NaN.

        Raises:
            ValueError: the name is taken, or was first used with other label names.
        """
        labels = labels or {}
        family = self._scraped.get(name)
        if family is None:
            family = self._scraped[name] = self.gauge(name, help, *labels)
        family.labels(**labels).set_function(_never_raising(name, read))

    def render(self) -> tuple[bytes, str]:
        """Return the exposition text (Prometheus 0.0.4) and its content type.

        It reads /proc and takes milliseconds: call it in a thread.
        """
        return generate_latest(self.registry), CONTENT_TYPE_PLAIN_0_0_4


def _never_raising(name: str, read: Callable[[], float]) -> Callable[[], float]:
    def value() -> float:
        try:
            return float(read())
        # One broken gauge must not blind the autoscaler to all the others.
        except Exception:
            log.warning("gauge_unreadable", metric=name, exc_info=True)
            return float("nan")

    return value
