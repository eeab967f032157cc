"""Kept answers: made once, found by all, in nobody's way when Redis is."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from fleet_cli.engines.freeport import free_port
from fleet_common.cache import MAX_BYTES, Cache
from fleet_common.metrics import Metrics
from fleet_common.redis import create_redis

HOUR = timedelta(hours=1)


@pytest.fixture
def key() -> str:
    return f"test:cache:{secrets.token_hex(6)}"


class Replica:
    """One process with a cache, and a maker that counts."""

    def __init__(self, cache: Cache, metrics: Metrics) -> None:
        self.cache = cache
        self.metrics = metrics
        self.made = 0
        self.may_finish = asyncio.Event()
        self.may_finish.set()
        self.started = asyncio.Event()

    async def make(self) -> tuple[str, bytes | None]:
        self.made += 1
        self.started.set()
        await self.may_finish.wait()
        return "made", b"kept"

    async def ask(self, key: str, ttl: timedelta = HOUR) -> str:
        return await self.cache.through(
            key, name="tool", ttl=ttl, make=self.make, unpack=lambda packed: packed.decode()
        )

    def count(self, outcome: str) -> float | None:
        labels = {"service": "test", "name": "tool", "outcome": outcome}
        return self.metrics.registry.get_sample_value("mcp_cache_total", labels)


@asynccontextmanager
async def replica(url: str | None, patience: timedelta = HOUR) -> AsyncGenerator[Replica]:
    redis = create_redis(url) if url else None
    metrics = Metrics("test")
    try:
        yield Replica(Cache(redis, metrics, patience), metrics)
    finally:
        if redis:
            await redis.aclose(close_connection_pool=True)


async def test_an_answer_is_made_once_and_kept_for_all_replicas(redis_url: str, key: str) -> None:
    async with replica(redis_url) as one, replica(redis_url) as other:
        assert [await one.ask(key), await one.ask(key), await other.ask(key)] == [
            "made",
            "kept",
            "kept",
        ]
        assert (one.made, other.made) == (1, 0)
        assert (one.count("miss"), one.count("hit"), other.count("hit")) == (1, 1, 1)


async def test_an_answer_is_kept_for_its_time_and_no_longer(redis_url: str, key: str) -> None:
    async with replica(redis_url) as one:
        await one.ask(key, timedelta(milliseconds=30))
        await asyncio.sleep(0.06)
        assert await one.ask(key) == "made"


async def test_how_long_an_answer_is_kept_can_be_asked(redis_url: str, key: str) -> None:
    async with replica(redis_url) as one, replica(None) as alone:
        assert await one.cache.life_of(key) is None
        await one.ask(key, timedelta(minutes=1))
        left = await one.cache.life_of(key)
        assert left is not None
        assert timedelta() < left <= timedelta(minutes=1)
        assert await alone.cache.life_of(key) is None


async def test_callers_that_come_together_share_one_answer(redis_url: str, key: str) -> None:
    async with replica(redis_url) as one:
        answers = await asyncio.gather(*(one.ask(key) for _ in range(20)))
        assert one.made == 1
        assert sorted(set(answers)) == ["kept", "made"]
        assert one.count("shared") == 19


async def test_replicas_that_come_together_share_one_answer(redis_url: str, key: str) -> None:
    async with replica(redis_url) as one, replica(redis_url) as other:
        one.may_finish.clear()
        first = asyncio.ensure_future(one.ask(key))
        await one.started.wait()
        second = asyncio.ensure_future(other.ask(key))
        await asyncio.sleep(0.12)
        assert not second.done()
        one.may_finish.set()
        assert (await first, await second) == ("made", "kept")
        assert other.made == 0


async def test_when_the_first_caller_leaves_the_others_make_their_own(
    redis_url: str, key: str
) -> None:
    async with replica(redis_url) as one:
        one.may_finish.clear()
        first = asyncio.ensure_future(one.ask(key))
        await one.started.wait()
        second = asyncio.ensure_future(one.ask(key))
        await asyncio.sleep(0)
        first.cancel()
        one.may_finish.set()
        assert await second == "made"
        assert await one.ask(key) == "made"


async def test_a_caller_that_leaves_takes_nobody_with_it(redis_url: str, key: str) -> None:
    async with replica(redis_url) as one:
        one.may_finish.clear()
        first = asyncio.ensure_future(one.ask(key))
        await one.started.wait()
        second = asyncio.ensure_future(one.ask(key))
        await asyncio.sleep(0)
        second.cancel()
        one.may_finish.set()
        assert await first == "made"


async def test_a_failure_is_not_kept_and_holds_nobody_up(redis_url: str, key: str) -> None:
    async def fail() -> tuple[str, bytes | None]:
        raise KeyError("broken")

    async with replica(redis_url) as one, replica(redis_url) as other:
        with pytest.raises(KeyError):
            await one.cache.through(key, name="tool", ttl=HOUR, make=fail, unpack=bytes.decode)
        async with asyncio.timeout(4):
            assert await other.ask(key) == "made"


@pytest.mark.parametrize("packed", [None, b"x" * (MAX_BYTES + 1)], ids=["unfit", "large"])
async def test_what_must_not_or_cannot_be_kept_is_not(
    redis_url: str, key: str, packed: bytes | None
) -> None:
    async def make() -> tuple[str, bytes | None]:
        return "other", packed

    async with replica(redis_url) as one:
        await one.cache.through(key, name="tool", ttl=HOUR, make=make, unpack=bytes.decode)
        assert await one.ask(key) == "made"


@pytest.mark.parametrize("has_redis", [True, False])
async def test_while_redis_is_away_everybody_makes_their_own_at_once(
    key: str, has_redis: bool
) -> None:
    url = f"redis://127.0.0.1:{free_port()}/0" if has_redis else None
    async with replica(url) as one, asyncio.timeout(5):
        assert [await one.ask(key) for _ in range(3)] == ["made"] * 3
        assert one.made == 3
        assert one.count("away")


async def test_the_patience_with_a_redis_that_hangs_is_spent_once(key: str) -> None:
    held: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _reader, writer: held.append(writer), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    loop = asyncio.get_running_loop()
    async with server, replica(f"redis://127.0.0.1:{port}/0", timedelta(seconds=1)) as one:
        began = loop.time()
        for _ in range(5):
            assert await one.ask(key) == "made"
        assert loop.time() - began < 3
        for writer in held:
            writer.close()
