"""When keys were used last: written rarely, by every process, and never lost for a moment of Redis being away."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from fleet_common.auth.usage import KeyUsage
from fleet_common.redis import Redis
from fleet_common.testing import wait_until


@dataclass
class Shared:
    redis: Redis
    key: str


@pytest.fixture
def shared(redis: Redis) -> Shared:
    return Shared(redis, f"test:usage:{uuid4().hex}")


def at(second: int) -> datetime:
    return datetime.fromtimestamp(second, UTC)


async def test_two_processes_tell_when_their_keys_were_used(shared: Shared) -> None:
    one = KeyUsage(shared.redis, key=shared.key, now=lambda: 100)
    other = KeyUsage(shared.redis, key=shared.key, now=lambda: 200)
    async with one.written(), other.written():
        one.note("a")
        other.note("b")
    assert await one.read() == {"a": at(100), "b": at(200)}


async def test_many_calls_are_one_write(shared: Shared) -> None:
    usage = KeyUsage(shared.redis, key=shared.key, write_s=0.05)
    before = (await shared.redis.info("commandstats")).get("cmdstat_hset", {"calls": 0})["calls"]
    async with usage.written():
        for _ in range(1000):
            usage.note("a")
        await wait_until(lambda: _written(usage))
        await asyncio.sleep(0.12)
    after = (await shared.redis.info("commandstats"))["cmdstat_hset"]["calls"]
    assert after - before == 1


async def _written(usage: KeyUsage) -> bool:
    return "a" in await usage.read()


async def test_notes_wait_while_redis_is_away(shared: Shared) -> None:
    usage = KeyUsage(shared.redis, key=shared.key, write_s=0.02, now=lambda: 100)
    await shared.redis.set(shared.key, "no hash: every write fails")
    async with usage.written():
        usage.note("a")
        await asyncio.sleep(0.1)
        await shared.redis.delete(shared.key)
        await wait_until(lambda: _written(usage))
    assert await usage.read() == {"a": at(100)}


async def test_without_redis_nothing_is_noted() -> None:
    usage = KeyUsage(None)
    async with usage.written():
        usage.note("a")
    assert await usage.read() == {}
