"""When each fleet key was used last: noted in memory, written to Redis once a minute.

The key file cannot hold it: it is often mounted read-only, and a write per call would cost more than the call.
While Redis is away the notes wait; a killed process loses at most its last minute.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import structlog

from fleet_common.redis import REDIS_AWAY, Redis

log = structlog.get_logger()

KEY = "fleet:keys:used"
_WRITE_S = 60.0


class KeyUsage:
    """What one process noted about the use of keys."""

    def __init__(
        self,
        redis: Redis | None,
        *,
        key: str = KEY,
        write_s: float = _WRITE_S,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._redis = redis
        self._key = key
        self._write_s = write_s
        self._now = now
        self._used: dict[str, float] = {}

    def note(self, key_id: str) -> None:
        """Remember that the key was used just now."""
        if self._redis is not None:
            self._used[key_id] = self._now()

    async def read(self) -> dict[str, datetime]:
        """Return when each key was used last, to the minute, as all processes wrote it.

        Raises:
            one of `REDIS_AWAY`: Redis cannot be asked.
        """
        if self._redis is None:
            return {}
        # Any: redis-py's type leaves open whether answers are bytes; ours are.
        rows: dict[Any, Any] = await self._redis.hgetall(self._key)
        return {name.decode(): datetime.fromtimestamp(float(at), UTC) for name, at in rows.items()}

    @asynccontextmanager
    async def written(self) -> AsyncGenerator[None]:
        """Write the notes once a minute while the block runs, and once more after it."""
        if self._redis is None:
            yield
            return
        async with asyncio.TaskGroup() as group:
            writing = group.create_task(self._write_on(self._redis), name="key-usage")
            try:
                yield
            finally:
                writing.cancel()
        await self._write(self._redis)

    async def _write_on(self, redis: Redis) -> None:
        while True:
            await asyncio.sleep(self._write_s)
            await self._write(redis)

    async def _write(self, redis: Redis) -> None:
        used, self._used = self._used, {}
        if not used:
            return
        try:
            await redis.hset(self._key, mapping={name: str(at) for name, at in used.items()})
        except REDIS_AWAY as exc:
            self._used = used | self._used
            log.info("key_usage_not_written", error=type(exc).__name__)
