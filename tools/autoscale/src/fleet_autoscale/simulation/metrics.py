"""What Prometheus would say, from the book that the kernel keeps: late by a scrape and a rule, gone in an outage."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fleet_autoscale.simulation.kernel import (
    BOUNDS,
    BUCKETS,
    DONE,
    INFLIGHT,
    REFUSED,
    SERVICE_S,
    STARTED,
    WAITING,
)

_LOOKBACK_S = 300  # Prometheus takes a sample for current that long


@dataclass(slots=True)
class Meter:
    """Rates, gauges and quantiles as of the newest sample."""

    book: NDArray[np.float64]
    scrape_s: float
    outage: tuple[float, float] | tuple[()] = ()
    stale: tuple[float, float] | tuple[()] = ()
    _gauges: NDArray[np.float64] = field(init=False)
    _summed: int = 0

    def __post_init__(self) -> None:
        """Make room for the gauges, which are sums of the book's differences."""
        self._gauges = np.zeros((len(self.book), 2))

    def as_of(self, now_s: float) -> int | None:
        """Return the second of the newest sample that a rule has seen by `now_s`; None when there is none."""
        if self.outage and self.outage[0] <= now_s < self.outage[1]:
            return None
        if self.stale and self.stale[0] <= now_s < self.stale[1]:
            if now_s - self.stale[0] > _LOOKBACK_S:
                return None
            now_s = self.stale[0]
        return max(0, int(math.floor(now_s / self.scrape_s - 1) * self.scrape_s))

    def rate(self, column: int, at: int, window_s: int) -> float:
        """Return a counter's increase per second over the window that ends at `at`."""
        begin = max(0, at - window_s)
        return float(self.book[begin:at, column].sum()) / max(at - begin, 1)

    def demand_rate(self, at: int, window_s: int = 30) -> float:
        """Return the calls that wanted a slot, per second, shed ones too.

        A call that a pod sheds tries another one and is started twice, else an overload would look twice as large as
        it is: with a share of refusals r, calls are started 1 + r times.
        """
        started, refused = self.rate(STARTED, at, window_s), self.rate(REFUSED, at, window_s)
        return started / (1.0 + refused / started) if started else 0.0

    def mean_service_s(self, at: int, default: float, window_s: int = 300) -> float:
        """Return the mean time in a slot; `default` when nothing ended in the window."""
        done = self.rate(DONE, at, window_s)
        return self.rate(SERVICE_S, at, window_s) / done if done else default

    def waiting(self, at: int) -> float:
        """Return the calls that wait in pods."""
        return float(self._gauge(at)[0])

    def inflight(self, at: int) -> float:
        """Return the calls that hold a slot."""
        return float(self._gauge(at)[1])

    def mean_inflight(self, at: int, window_s: int) -> float:
        """Return the mean of the calls in pods, running and waiting, over the window."""
        self._gauge(at)
        return float(self._gauges[max(0, at - window_s + 1) : at + 1].sum(axis=1).mean())

    def mean_busy(self, at: int, window_s: int) -> float:
        """Return the mean of the slots in use over the window."""
        self._gauge(at)
        return float(self._gauges[max(0, at - window_s + 1) : at + 1, 1].mean())

    def p95(self, at: int, window_s: int = 60) -> float | None:
        """Return the 95th percentile in objectives as `histogram_quantile` does; None without traffic."""
        counts = self.book[max(0, at - window_s) : at, BUCKETS:].sum(axis=0)
        total = counts.sum()
        if total == 0:
            return None
        cumulative = np.cumsum(counts)
        bucket = int(np.searchsorted(cumulative, 0.95 * total))
        if bucket >= len(BOUNDS):
            return float(BOUNDS[-1])
        low: float = float(BOUNDS[bucket - 1]) if bucket else 0.0
        below = float(cumulative[bucket - 1]) if bucket else 0.0
        inside = (0.95 * total - below) / max(float(counts[bucket]), 1.0)
        return float(low + (float(BOUNDS[bucket]) - low) * inside)

    def _gauge(self, at: int) -> NDArray[np.float64]:
        if at >= self._summed:
            begin = self._summed
            steps = self.book[begin : at + 1, [WAITING, INFLIGHT]].cumsum(axis=0)
            before = self._gauges[begin - 1] if begin else 0.0
            self._gauges[begin : at + 1] = steps + before
            self._summed = at + 1
        row: NDArray[np.float64] = self._gauges[at]
        return row
