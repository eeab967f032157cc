"""Answers kept for a while in Redis, made once however many ask for them at the same time.

Callers in one process wait for the one that came first; processes wait for each other behind a lock of a few seconds.
When Redis is away, or there is none, everybody makes their own answer: nothing fails and nothing waits. What an
answer depends on is the caller's business: it must all be in the key.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

from fleet_common.metrics import Metrics
from fleet_common.redis import REDIS_AWAY, Redis

MAX_BYTES = 256 * 1024
PATIENCE = timedelta(milliseconds=100)
_AWAY_S = 1.0  # how long Redis is left alone after it failed
_LOCK_MS = 5000  # how long others wait for an answer that is being made
_LOOK_EVERY_S = 0.05

T = TypeVar("T")


class Cache:
    """The kept answers of all replicas.

    Args:
        redis: where they are kept; without one everybody makes their own.
        metrics: counts where answers came from.
        patience: how long Redis may take; a cache that is slower is no help.
    """

    def __init__(
        self, redis: Redis | None, metrics: Metrics, patience: timedelta = PATIENCE
    ) -> None:
        self._redis = redis
        self._patience_s = patience.total_seconds()
        self._outcomes = metrics.counter(
            "mcp_cache_total", "Answers by where they came from: hit, shared, miss or away.",
            "name", "outcome",
        )  # fmt: skip
        self._flights: dict[str, asyncio.Future[bytes | None]] = {}
        self._away_until = 0.0

    async def through(
        self,
        key: str,
        *,
        name: str,
        ttl: timedelta,
        make: Callable[[], Awaitable[tuple[T, bytes | None]]],
        unpack: Callable[[bytes], T],
    ) -> T:
        """Return the answer kept under `key`, else what `make` returns.

        Args:
            key: all that the answer depends on.
            name: what the metrics call it.
            ttl: how long it is kept.
            make: returns the answer, and the bytes to keep; None if it must not be kept.
            unpack: returns the answer that such bytes stand for.
        """
        count = self._outcomes
        if self._redis is None or self._is_away:
            count.labels(name=name, outcome="away").inc()
            return (await make())[0]
        if flight := self._flights.get(key):
            kept = await asyncio.shield(flight)
            count.labels(name=name, outcome="miss" if kept is None else "shared").inc()
            return (await make())[0] if kept is None else unpack(kept)
        flight = self._flights[key] = asyncio.get_running_loop().create_future()
        kept = None
        try:
            kept = await self._find(self._redis, key)
            if kept is not None:
                count.labels(name=name, outcome="hit").inc()
                return unpack(kept)
            count.labels(name=name, outcome="miss").inc()
            answer, kept = await self._make(self._redis, key, ttl, make)
            return answer
        finally:
            del self._flights[key]
            flight.set_result(kept)

    async def life_of(self, key: str) -> timedelta | None:
        """Return how long the answer under `key` is still kept; None when there is none, or Redis is away."""
        redis = self._redis
        left = None if redis is None else await self._ask(lambda: redis.pttl(key))
        return timedelta(milliseconds=left) if isinstance(left, int) and left > 0 else None

    async def _make(
        self,
        redis: Redis,
        key: str,
        ttl: timedelta,
        make: Callable[[], Awaitable[tuple[T, bytes | None]]],
    ) -> tuple[T, bytes | None]:
        """Make the answer and keep it; whether or not that works, others need not wait any longer."""
        try:
            answer, packed = await make()
            if packed is not None and len(packed) <= MAX_BYTES:
                await self._ask(lambda: redis.set(key, packed, px=ttl))
            return answer, packed
        finally:
            await self._ask(lambda: redis.delete(_lock(key)))

    async def _find(self, redis: Redis, key: str) -> bytes | None:
        """Return what is kept, also when another process is just making it; None when it is ours to make."""
        while True:
            kept = await self._ask(lambda: redis.get(key))
            if isinstance(kept, bytes):
                return kept
            is_ours = await self._ask(lambda: redis.set(_lock(key), b"1", nx=True, px=_LOCK_MS))
            if is_ours or self._is_away:
                return None
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _ask(self, question: Callable[[], Awaitable[object]]) -> object:
        """Return Redis's answer, None while it is away."""
        if self._is_away:
            return None
        try:
            async with asyncio.timeout(self._patience_s):
                return await question()
        except REDIS_AWAY:
            self._away_until = time.monotonic() + _AWAY_S
            return None

    @property
    def _is_away(self) -> bool:
        return time.monotonic() < self._away_until


def _lock(key: str) -> str:
    return f"{key}:lock"
