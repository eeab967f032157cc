"""A circuit breaker that looks at the share of failures, not at a run of them.

Closed: results are counted in ten slices of a sliding time window; when enough calls are in it and
the share of failures reaches the limit, it opens. Open: nothing passes until `open_s` is over.
Half open: a trickle, one trial at a time; enough successes in a row close it, one failure opens it
again. What says nothing about the dependency's health (4xx, 429, a call cut short by its own
deadline) is reported as `ignored` and counts nowhere.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import Literal

from fleet_common.clock import Clock
from fleet_common.metrics import Metrics

State = Literal["closed", "open", "half_open"]
_SLICES = 10


class BreakerOpen(Exception):
    """Raised instead of a permit; `retry_after_s` is the earliest useful retry."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"the breaker is open for {retry_after_s:.1f} s")
        self.retry_after_s = retry_after_s


@dataclass(slots=True)
class _Slice:
    number: int
    calls: int = 0
    failures: int = 0


class Permit:
    """The right to make one call; report its outcome once with `succeeded`, `failed` or `ignored`.

    Further reports, and reports about a call that began before the breaker changed its state, are
    dropped: they say nothing about the dependency as it is now.
    """

    __slots__ = ("_breaker", "_era")

    def __init__(self, breaker: Breaker, era: int) -> None:
        self._breaker = breaker
        self._era: int | None = era

    def succeeded(self) -> None:
        """Report an answer."""
        self._report(failed=False)

    def failed(self) -> None:
        """Report no answer, or a 5xx."""
        self._report(failed=True)

    def ignored(self) -> None:
        """Give the permit back without an opinion."""
        self._report(failed=None)

    def _report(self, *, failed: bool | None) -> None:
        era, self._era = self._era, None
        if era is not None:
            self._breaker._record(era, failed=failed)  # noqa: SLF001 - two halves of one thing


class Breaker:
    """The breaker of one dependency; share one object among all that call it.

    Args:
        failure_rate: share of failures in the window that opens it, above 0 and up to 1.
        minimum_calls: with fewer calls in the window it stays closed, whatever they say.
        window_s: how far back results count, in seconds.
        open_s: how long nothing passes, in seconds.
        trials: successes in a row that close it again.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        *,
        failure_rate: float = 0.5,
        minimum_calls: int = 10,
        window_s: float = 30.0,
        open_s: float = 5.0,
        trials: int = 3,
        clock: Clock = time.monotonic,
    ) -> None:
        self._failure_rate = failure_rate
        self._minimum_calls = minimum_calls
        self._slice_s = window_s / _SLICES
        self._open_s = open_s
        self._trials = trials
        self._clock = clock
        self._era = 0
        self._state: State = "closed"
        self._slices: deque[_Slice] = deque()
        self._opened_at = 0.0
        self._trial_in_flight = False
        self._trials_left = 0

    @property
    def state(self) -> State:
        """The state that the next permit will find."""
        if self._state == "open" and self._open_for() <= 0:
            return "half_open"
        return self._state

    def export(self, metrics: Metrics, dep: str) -> None:
        """Add `mcp_breaker_open{dep}`."""
        metrics.gauge_at_scrape(
            "mcp_breaker_open",
            "1 while a dependency is left alone because it failed too often.",
            lambda: self.state == "open",
            {"dep": dep},
        )

    def permit(self) -> Permit:
        """Return the right to make one call.

        Raises:
            BreakerOpen: the dependency is being left alone.
        """
        if self._state == "open":
            if (open_for := self._open_for()) > 0:
                raise BreakerOpen(open_for)
            self._enter("half_open")
        if self._state == "half_open":
            if self._trial_in_flight:
                raise BreakerOpen(min(1.0, self._open_s))
            self._trial_in_flight = True
        return Permit(self, self._era)

    def _open_for(self) -> float:
        return self._opened_at + self._open_s - self._clock()

    def _record(self, era: int, *, failed: bool | None) -> None:
        if era != self._era:
            return
        if self._state == "half_open":
            self._record_trial(failed=failed)
        elif failed is not None:
            self._count(failed=failed)
            if failed and self._is_failing():
                self._enter("open")

    def _record_trial(self, *, failed: bool | None) -> None:
        self._trial_in_flight = False
        if failed:
            self._enter("open")
        elif failed is not None:
            self._trials_left -= 1
            if self._trials_left <= 0:
                self._enter("closed")

    def _count(self, *, failed: bool) -> None:
        number = self._expire()
        if not self._slices or self._slices[-1].number != number:
            self._slices.append(_Slice(number))
        self._slices[-1].calls += 1
        self._slices[-1].failures += failed

    def _expire(self) -> int:
        number = int(self._clock() // self._slice_s)
        while self._slices and self._slices[0].number <= number - _SLICES:
            self._slices.popleft()
        return number

    def _is_failing(self) -> bool:
        calls = sum(piece.calls for piece in self._slices)
        failures = sum(piece.failures for piece in self._slices)
        return calls >= self._minimum_calls and failures >= self._failure_rate * calls

    def _enter(self, state: State) -> None:
        self._era += 1
        self._state = state
        self._slices.clear()
        self._trial_in_flight = False
        self._trials_left = self._trials
        self._opened_at = self._clock()
