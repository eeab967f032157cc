"""Slots and a short queue in front of them, shed by deadline.

The queue is bounded in length and in time. A call is shed at once when it could not start within its time: the queue
is full of calls with a better claim, or its expected wait (exponentially weighted mean time in a slot x calls ahead /
slots) is too long; it is shed later when that time runs out. What waits here is the queue depth that autoscaling
reads; long queues do not belong into one process, where no other replica can help.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeAlias

from fleet_common.admission.queue import Caller, FairQueue
from fleet_common.errors import Overloaded
from fleet_common.metrics import Metrics

_WEIGHT = 0.1  # of the newest sample in the mean time in a slot

Held: TypeAlias = tuple[Caller, float, float]
"""A slot: whose it is, and when, on the clock, its caller arrived and got it."""


class Admission:
    """Hands out slots; tells the metrics what waits, runs and is turned away.

    Args:
        slots: calls that run at once.
        queue: calls that wait at most.
        wait_s: the longest time a call waits, in seconds, however much its caller has.
        metrics: where to report.
        monotonic: the clock.
    """

    def __init__(
        self,
        *,
        slots: int,
        queue: int,
        metrics: Metrics,
        wait_s: float = float("inf"),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._slots = slots
        self._queue = queue
        self._wait_s = wait_s
        self._metrics = metrics
        self._monotonic = monotonic
        self._running = 0
        self._held: dict[str, int] = {}  # slots by tenant
        self._waiting: FairQueue[asyncio.Future[None]] = FairQueue(self._held)
        self._mean_s = 0.0
        metrics.admission_limit.set(slots)
        metrics.admission_inflight.set_function(lambda: self._running)
        metrics.admission_waiting.set_function(lambda: len(self._waiting))

    async def enter(self, timeout_s: float, caller: Caller) -> Held:
        """Take a slot, which must be given back with `leave`.

        Args:
            timeout_s: time the caller has in all, in seconds; waiting may use it up.
            caller: whose share it counts against.

        Raises:
            Overloaded: no slot within the time; `retry_after_s` says when one is likely.
        """
        arrived = started = self._monotonic()
        self._metrics.requests_started.inc()
        if self._running < self._slots:
            self._hold(caller.tenant)
        else:
            await self._queued(min(timeout_s, self._wait_s), caller)
            started = self._monotonic()
        self._metrics.queue_seconds.observe(started - arrived)
        return caller, arrived, started

    def leave(self, held: Held) -> None:
        """Give a slot back."""
        caller, arrived, started = held
        self._leave(caller.tenant)
        ended = self._monotonic()
        self._mean_s += _WEIGHT * (ended - started - self._mean_s)
        self._metrics.service_seconds.observe(ended - started)
        self._metrics.request_duration_seconds.observe(ended - arrived)

    async def _queued(self, wait_s: float, caller: Caller) -> None:
        expected_s = self._expected_wait_s(caller)
        if expected_s > wait_s:
            raise self._shed("deadline", expected_s)
        if len(self._waiting) >= self._queue:
            self._make_room(caller, expected_s)
        await self._wait(wait_s, caller)

    def _make_room(self, caller: Caller, expected_s: float) -> None:
        sent_away = self._waiting.yield_to(caller)
        if sent_away is None:
            raise self._shed("queue_full", expected_s)
        turn, owner = sent_away
        turn.set_exception(self._shed("queue_full", self._expected_wait_s(owner)))

    async def _wait(self, wait_s: float, caller: Caller) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(turn, caller)
        try:
            async with asyncio.timeout(wait_s):
                await turn
        except BaseException as exc:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._leave(caller.tenant)  # the slot came at the same moment: pass it on
            if isinstance(exc, TimeoutError):
                raise self._shed("deadline", self._expected_wait_s(caller)) from None
            raise
        finally:
            self._waiting.discard(turn, caller)

    def _hold(self, tenant: str) -> None:
        self._running += 1
        self._held[tenant] = self._held.get(tenant, 0) + 1

    def _leave(self, tenant: str) -> None:
        self._running -= 1
        held = self._held.pop(tenant) - 1
        if held:
            self._held[tenant] = held
        while (waiting := self._waiting.take()) is not None:
            turn, owner = waiting
            if not turn.done():
                self._hold(owner.tenant)
                turn.set_result(None)
                return

    def _expected_wait_s(self, caller: Caller) -> float:
        return self._mean_s * (self._waiting.ahead_of(caller) + 1) / self._slots

    def _shed(self, reason: str, expected_s: float) -> Overloaded:
        self._metrics.admission_shed.labels(reason=reason).inc()
        return Overloaded("all slots are busy", retry_after_s=max(1.0, round(expected_s, 1)))
