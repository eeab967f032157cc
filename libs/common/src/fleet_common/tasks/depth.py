"""How much work a queue holds, for those who scale its workers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import anyio.from_thread

from fleet_common.metrics import Metrics
from fleet_common.redis import REDIS_AWAY, Redis


def queue_name(service: str) -> str:
    """Return the name of a service's queue: the prefix of all its keys in Redis."""
    return f"fleet-{service}"


class QueueDepth:
    """Reads the depth of one queue: two short commands when it is empty, three when it is not."""

    def __init__(self, redis: Redis, service: str, now: Callable[[], float] = time.time) -> None:
        self._redis = redis
        self._stream = f"{queue_name(service)}:stream"
        self._now = now
        self._oldest_s = math.nan

    async def measure(self) -> tuple[int, float]:
        """Return how many tasks are not finished, and how many seconds the oldest has waited for a worker.

        Running tasks count: a queue whose workers died, or were scaled away, must not look empty.
        """
        unfinished = int(await self._redis.xlen(self._stream))
        if unfinished == 0:
            return 0, 0.0
        groups = await self._redis.xinfo_groups(self._stream)
        taken = groups[0]["last-delivered-id"] if groups else b"0-0"
        waiting = await self._redis.xrange(self._stream, min=b"(" + taken, count=1)
        if not waiting:
            return unfinished, 0.0
        # Any: the stubs allow text and None; a stream id is bytes here, and begins with its time.
        stream_id: Any = waiting[0][0]
        queued_ms = int(stream_id.split(b"-")[0])
        return unfinished, max(0.0, self._now() - queued_ms / 1000)

    def export(self, metrics: Metrics, service: str) -> None:
        """Add the two gauges to `metrics`; they are NaN while Redis is away."""
        labels = {"queue": service}
        metrics.gauge_at_scrape(
            "mcp_tasks_pending", "Tasks that are not finished.", self._read_pending, labels
        )
        metrics.gauge_at_scrape(
            "mcp_tasks_oldest_seconds",
            "Time that the oldest task has waited for a worker.",
            lambda: self._oldest_s,  # exposition keeps the order, so this is from the same scrape
            labels,
        )

    def _read_pending(self) -> float:
        try:
            # A scrape is rendered in a worker thread of the loop that owns the client.
            pending, self._oldest_s = anyio.from_thread.run(self.measure)
        except REDIS_AWAY:
            self._oldest_s = math.nan
            return math.nan
        return pending
