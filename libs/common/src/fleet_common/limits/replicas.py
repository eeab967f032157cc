"""How many processes of a service run: what one of them may give away alone is its limit divided by this."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from fleet_common.background import background
from fleet_common.redis import REDIS_AWAY, Redis

_EVERY_S = 5.0
_GONE_AFTER_S = 15
# By Redis's clock: note that this process lives, forget who has not been heard of, count the rest.
_SCRIPT = f"""
local now = tonumber(redis.call('TIME')[1])
redis.call('ZADD', KEYS[1], now, ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - {_GONE_AFTER_S})
redis.call('EXPIRE', KEYS[1], {_GONE_AFTER_S * 2})
return redis.call('ZCARD', KEYS[1])
"""


class Replicas:
    """Counts the processes of one service through Redis.

    Attributes:
        count: the last known number; what the settings say until Redis has been asked once.
    """

    def __init__(self, redis: Redis | None, service: str, *, assumed: int) -> None:
        self.count = assumed
        self._redis = redis
        self._key = f"fleet:replicas:{service}"
        self._name = secrets.token_hex(8)

    @asynccontextmanager
    async def counted(self) -> AsyncGenerator[None]:
        """Be one of the replicas while the block runs."""
        if self._redis is None:
            yield
            return
        async with background(self._keep_counting(self._redis), name="replicas"):
            yield

    async def _keep_counting(self, redis: Redis) -> None:
        while True:
            try:
                # Any: redis-py types the answers of all scripts alike.
                answer: Any = await redis.eval(_SCRIPT, 1, self._key, self._name)
                self.count = int(answer)
            except REDIS_AWAY:
                pass  # the last known number stays
            await asyncio.sleep(_EVERY_S)
