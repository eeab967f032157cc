"""Counting the processes of a service."""

from __future__ import annotations

from fleet_cli.engines.freeport import free_port
from fleet_common.limits import Replicas
from fleet_common.redis import Redis, create_redis
from fleet_common.testing import wait_until


async def test_processes_that_live_are_counted(redis: Redis, prefix: str) -> None:
    one, other = (Replicas(redis, prefix, assumed=1) for _ in range(2))
    async with one.counted():

        async def is_alone() -> bool:
            return bool(await redis.exists(f"fleet:replicas:{prefix}"))

        await wait_until(is_alone)
        async with other.counted():

            async def knows_both() -> bool:
                return other.count == 2

            await wait_until(knows_both)


async def test_who_has_not_been_heard_of_is_forgotten(redis: Redis, prefix: str) -> None:
    seconds, _ = await redis.time()
    await redis.zadd(f"fleet:replicas:{prefix}", {"killed": seconds - 20})
    survivor = Replicas(redis, prefix, assumed=7)
    async with survivor.counted():

        async def is_counted() -> bool:
            return survivor.count == 1

        await wait_until(is_counted)


async def test_while_redis_is_away_the_last_number_stays() -> None:
    redis = create_redis(f"redis://127.0.0.1:{free_port()}/0")
    replicas = Replicas(redis, "test", assumed=3)
    async with replicas.counted():
        pass
    await redis.aclose(close_connection_pool=True)
    assert replicas.count == 3
