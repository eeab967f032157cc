"""Decides about calls: in Redis for all replicas, together with whatever else wants a decision in this moment.

One script call is on its way at a time. Decisions that come in the same tick of the event loop, or while an
answer is awaited, go out together in the next one, so the cost of a decision falls as the load grows: 0.1 ms of CPU
alone, 15 µs in sixteens, 8 in sixties (three buckets each, uvloop).

When Redis is away, or slower than a decision may wait, this process gives away its own share: the limit divided by
the replicas that were last counted. It says so once, shows it in a gauge and in the health report, stays ready, and
goes back by itself when a trial of Redis succeeds.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import structlog

from fleet_common.background import background
from fleet_common.health import Health
from fleet_common.limits.buckets import Bucket, Plan, Verdict
from fleet_common.limits.local import LocalBuckets
from fleet_common.limits.replicas import Replicas
from fleet_common.limits.shared import SharedBuckets
from fleet_common.metrics import Metrics
from fleet_common.redis import REDIS_AWAY, Redis

log = structlog.get_logger()

PATIENCE_S = 0.1  # what a call may wait for its decision
_TRIAL_EVERY_S = 1.0
_TRIAL_PATIENCE_S = 0.5  # it may have to open the connection
_MOST_AT_ONCE = 256  # keeps the script below a millisecond, in which Redis serves nobody else
# A trial writes, so that a read-only or full Redis counts as away.
_TRIAL = (Bucket("fleet:limit:trial", "trial", 1, 1),)

_Waiting = tuple[Plan, asyncio.Future[Verdict]]


class Limiter:
    """Decides about plans; see the module."""

    def __init__(
        self, redis: Redis | None, replicas: Replicas, *, metrics: Metrics, health: Health
    ) -> None:
        self._shared = SharedBuckets(redis) if redis is not None else None
        self._local = LocalBuckets()
        self._replicas = replicas
        self._health = health
        self._gauge = metrics.gauge(
            "mcp_limits_local", "1 while limits are decided without Redis, by this process's share."
        ).labels()
        self._waiting: list[_Waiting] = []
        self._arrived = asyncio.Event()
        self._is_shared = False

    async def decide(self, plan: Plan) -> Verdict:
        """Return whether a call fits into all buckets of `plan` (at least one), and take it if so."""
        if not self._is_shared:
            return self._decide_alone(plan)
        turn: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._waiting.append((plan, turn))
        self._arrived.set()
        return await turn

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Decide together with the other replicas while the block runs."""
        if self._shared is None:
            yield
            return
        await self._try(self._shared)
        try:
            async with (
                self._replicas.counted(),
                background(self._send_batches(self._shared), name="limits"),
            ):
                yield
        finally:
            await self._shared.close()

    async def _send_batches(self, shared: SharedBuckets) -> None:
        try:
            while True:
                while self._is_shared:
                    await self._arrived.wait()
                    self._arrived.clear()
                    while self._waiting and self._is_shared:
                        await self._settle(shared)
                await asyncio.sleep(_TRIAL_EVERY_S)
                await self._try(shared)
        finally:  # nobody may wait for an answer that will not come
            self._is_shared = False
            self._settle_alone()

    async def _try(self, shared: SharedBuckets) -> None:
        try:
            async with asyncio.timeout(_TRIAL_PATIENCE_S):
                await shared.decide([_TRIAL])
        except REDIS_AWAY as exc:
            self._turn_local(exc)
        else:
            self._turn_shared()

    async def _settle(self, shared: SharedBuckets) -> None:
        batch = self._waiting[:_MOST_AT_ONCE]
        try:
            async with asyncio.timeout(PATIENCE_S):
                verdicts = await shared.decide([plan for plan, _ in batch])
        except REDIS_AWAY as exc:
            self._turn_local(exc)
            self._settle_alone()
            return
        del self._waiting[: len(batch)]
        for (_, turn), verdict in zip(batch, verdicts, strict=True):
            if not turn.done():  # the caller may have gone
                turn.set_result(verdict)

    def _settle_alone(self) -> None:
        waiting, self._waiting = self._waiting, []
        for plan, turn in waiting:
            if not turn.done():
                turn.set_result(self._decide_alone(plan))

    def _decide_alone(self, plan: Plan) -> Verdict:
        return self._local.decide(plan, replicas=self._replicas.count)

    def _turn_shared(self) -> None:
        self._is_shared = True
        self._gauge.set(0)
        if "limits" in self._health.degraded:
            self._health.degraded.discard("limits")
            log.info("limits_shared_again")

    def _turn_local(self, exc: BaseException) -> None:
        self._is_shared = False
        self._gauge.set(1)
        if "limits" not in self._health.degraded:
            self._health.degraded.add("limits")
            log.warning("limits_local", error=type(exc).__name__, replicas=self._replicas.count)
