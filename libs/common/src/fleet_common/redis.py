"""The fleet's Redis (or Valkey): one client per process, which connects when it is first used.

What lives there is shared between replicas and may be lost: every user says what it does while Redis is away.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from redis.asyncio import BlockingConnectionPool
from redis.asyncio import Redis as _Redis
from redis.asyncio.client import Pipeline
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from fleet_common.tracing import ClientSpan

Redis: TypeAlias = _Redis

REDIS_AWAY = (RedisError, OSError, TimeoutError)
"""What a call raises while Redis cannot be reached or does not answer in time."""

_TIMEOUT_S = 1.0  # a decision that takes longer is made without Redis
_CONNECTIONS = 64


def create_redis(url: str, *, timeout_s: float = _TIMEOUT_S, traced: bool = False) -> Redis:
    """Return a client of the server at `url` (`redis://`, `rediss://` or `unix://`); answers are bytes.

    Nothing is repeated: a script that has run must not run again because its answer was lost.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=_CONNECTIONS,
        timeout=timeout_s,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=30,
        # Its default looks up redis-py's version on disk for each connection, in the event loop.
        driver_info=None,
    )
    return (_TracedRedis if traced else _Redis)(connection_pool=pool)


class _TracedRedis(_Redis):
    """Records a span per command or pipeline, with the command's name alone: keys and values hold what is ours."""

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        with _span(str(args[0])):
            return await super().execute_command(*args, **options)  # type: ignore[no-untyped-call]  # redis-py

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        return _TracedPipeline(
            self.connection_pool, self.response_callbacks, transaction, shard_hint
        )


class _TracedPipeline(Pipeline):
    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        with _span("PIPELINE"):
            return await super().execute(raise_on_error)


def _span(command: str) -> ClientSpan:
    return ClientSpan(command, lambda: {"db.system.name": "redis", "db.operation.name": command})
