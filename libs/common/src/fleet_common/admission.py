"""Admission: a fixed number of slots and a short queue in front of them, shed by deadline.

The queue is FIFO and bounded. A call is shed at once when the queue is full, or when its expected wait
(mean time in a slot x calls ahead / slots, the mean being exponentially weighted) is longer than it has; it is
shed later when its time runs out in the queue. What waits here is the queue depth that autoscaling reads.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

from fleet_common.errors import Overloaded
from fleet_common.metrics import Metrics

_WEIGHT = 0.1  # of the newest sample in the mean time in a slot


class Admission:
    """Hands out slots; tells the metrics what waits, runs and is turned away."""

    def __init__(
        self,
        *,
        slots: int,
        queue: int,
        metrics: Metrics,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._slots = slots
        self._queue = queue
        self._metrics = metrics
        self._monotonic = monotonic
        self._running = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._mean_s = 0.0
        metrics.admission_limit.set(slots)

    @asynccontextmanager
    async def slot(self, timeout_s: float) -> AsyncGenerator[None]:
        """Hold one slot while the block runs.

        Args:
            timeout_s: time the caller has in all, in seconds; waiting may use it up.

        Raises:
            Overloaded: no slot within the time; `retry_after_s` says when one is likely.
        """
        arrived = self._monotonic()
        self._metrics.requests_started.inc()
        await self._enter(timeout_s)
        started = self._monotonic()
        self._metrics.queue_seconds.observe(started - arrived)
        try:
            yield
        finally:
            self._leave()
            ended = self._monotonic()
            self._mean_s += _WEIGHT * (ended - started - self._mean_s)
            self._metrics.service_seconds.observe(ended - started)
            self._metrics.request_duration_seconds.observe(ended - arrived)

    async def _enter(self, timeout_s: float) -> None:
        if self._running < self._slots:
            self._run(+1)
            return
        if len(self._waiting) >= self._queue:
            raise self._shed("queue_full")
        if self._expected_wait_s() > timeout_s:
            raise self._shed("deadline")
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._metrics.admission_waiting.set(len(self._waiting))
        try:
            async with asyncio.timeout(timeout_s):
                await turn
        except BaseException as exc:
            if turn.done() and not turn.cancelled():
                self._leave()  # the slot came at the same moment: pass it on
            if isinstance(exc, TimeoutError):
                raise self._shed("deadline") from None
            raise
        finally:
            if turn in self._waiting:
                self._waiting.remove(turn)
            self._metrics.admission_waiting.set(len(self._waiting))

    def _leave(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)  # the slot changes hands; the count stays
                return
        self._run(-1)

    def _run(self, change: int) -> None:
        self._running += change
        self._metrics.admission_inflight.set(self._running)

    def _expected_wait_s(self) -> float:
        return self._mean_s * (len(self._waiting) + 1) / self._slots

    def _shed(self, reason: str) -> Overloaded:
        self._metrics.admission_shed.labels(reason=reason).inc()
        wait_s = max(1.0, round(self._expected_wait_s(), 1))
        return Overloaded("all slots are busy", retry_after_s=wait_s)
