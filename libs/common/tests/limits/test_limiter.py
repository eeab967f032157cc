"""Decisions in company: together with others, beside a slow Redis, without one, and after it came back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from fleet_cli.engines.freeport import free_port
from fleet_cli.engines.valkey import Valkey
from fleet_common.health import Health
from fleet_common.limits import Bucket, Limiter, Replicas
from fleet_common.metrics import Metrics
from fleet_common.redis import create_redis
from fleet_common.testing import wait_until


class Process:
    """What one process has: a limiter, its metrics and its health."""

    def __init__(self, url: str | None, *, replicas: int = 1) -> None:
        self.redis = create_redis(url) if url else None
        self.metrics = Metrics("test")
        self.health = Health()
        self.replicas = Replicas(None, "test", assumed=replicas)
        self.limiter = Limiter(self.redis, self.replicas, metrics=self.metrics, health=self.health)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[Limiter]:
        async with self.limiter.running():
            yield self.limiter
        if self.redis:
            await self.redis.aclose(close_connection_pool=True)

    async def is_local(self) -> bool:
        return (
            b'mcp_limits_local{service="test"} 1.0'
            in (await asyncio.to_thread(self.metrics.render))[0]
        )

    async def is_shared(self) -> bool:
        return not await self.is_local()


class Proxy:
    """A TCP proxy in front of a server: counts what clients send, and can hold everything back."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._open = asyncio.Event()
        self._open.set()
        self.requests: list[bytes] = []

    @asynccontextmanager
    async def serving(self) -> AsyncGenerator[str]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        async with server:
            yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"

    def hold(self) -> None:
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pump(reader, far_writer, self.requests.append))
            group.create_task(self._pump(far_reader, writer, lambda _: None))

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        note: Callable[[bytes], Any],
    ) -> None:
        try:
            while chunk := await reader.read(1 << 16):
                note(chunk)
                await self._open.wait()
                writer.write(chunk)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()


@pytest.fixture
async def proxy(redis_url: str) -> AsyncGenerator[tuple[Proxy, str]]:
    host = redis_url.rpartition("@")[2].partition("/")[0]
    proxy = Proxy(int(host.rpartition(":")[2]))
    async with proxy.serving() as address:
        yield proxy, redis_url.replace(host, address)


@pytest.fixture
def hourly(prefix: str) -> Bucket:
    """Ten calls, and nothing more comes back within a test."""
    return Bucket(f"{prefix}:calls", "calls", 10, 3_600_000_000)


async def allowed(limiter: Limiter, bucket: Bucket, calls: int) -> int:
    verdicts = await asyncio.gather(*(limiter.decide([bucket]) for _ in range(calls)))
    return sum(verdict.is_allowed for verdict in verdicts)


async def test_without_redis_one_process_keeps_the_whole_limit(hourly: Bucket) -> None:
    process = Process(None)
    async with process.running() as limiter:
        assert await allowed(limiter, hourly, 30) == 10
    assert not process.health.degraded


async def test_two_processes_share_one_limit(redis_url: str, hourly: Bucket) -> None:
    one, other = Process(redis_url), Process(redis_url)
    async with one.running() as first, other.running() as second:
        counts = await asyncio.gather(allowed(first, hourly, 30), allowed(second, hourly, 30))
    assert sum(counts) == 10


async def test_decisions_of_one_tick_are_one_request(
    proxy: tuple[Proxy, str], hourly: Bucket
) -> None:
    wire, url = proxy
    async with Process(url).running() as limiter:
        await limiter.decide([hourly])
        wire.requests.clear()
        assert await allowed(limiter, hourly, 100) == 9
    assert sum(chunk.count(b"EVALSHA") for chunk in wire.requests) == 1


async def test_a_caller_that_leaves_does_not_disturb_the_others(
    redis_url: str, hourly: Bucket
) -> None:
    async with Process(redis_url).running() as limiter:
        calls = [asyncio.ensure_future(limiter.decide([hourly])) for _ in range(4)]
        await asyncio.sleep(0)
        calls[0].cancel()
        others = await asyncio.gather(*calls[1:])
        assert all(verdict.is_allowed for verdict in others)
        with pytest.raises(asyncio.CancelledError):
            await calls[0]


async def test_a_slow_redis_costs_a_call_a_tenth_of_a_second_once(
    proxy: tuple[Proxy, str], hourly: Bucket
) -> None:
    wire, url = proxy
    process = Process(url)
    loop = asyncio.get_running_loop()
    async with process.running() as limiter:
        wire.hold()
        began = loop.time()
        assert await allowed(limiter, hourly, 30) == 10
        waited_s = loop.time() - began
        began = loop.time()
        assert await allowed(limiter, hourly, 100) == 0
        waited_again_s = loop.time() - began
        assert await process.is_local()
        wire.release()
        await wait_until(process.is_shared)
    assert waited_s < 1
    assert waited_again_s < 0.05


async def test_a_redis_that_dies_is_said_once_and_found_again_by_itself(
    tmp_path: Path, hourly: Bucket
) -> None:
    valkey = Valkey(
        home=tmp_path / "server",
        port=free_port(),
        password="test",
        durable=False,
        log=tmp_path / "valkey.log",
    )
    child = await asyncio.to_thread(valkey.start)
    process = Process(valkey.url, replicas=2)
    try:
        with capture_logs() as lines:
            async with process.running() as limiter:
                assert await allowed(limiter, hourly, 8) == 8
                await asyncio.to_thread(child.stop)
                assert await allowed(limiter, hourly, 30) == 5
                assert (await process.health.report()).degraded == ("limits",)
                assert (await process.health.report()).ok
                child = await asyncio.to_thread(valkey.start)
                await wait_until(process.is_shared)
                assert await allowed(limiter, hourly, 30) == 10
        assert not process.health.degraded
    finally:
        await asyncio.to_thread(child.stop)
    events = [line["event"] for line in lines if line["event"].startswith("limits")]
    assert events == ["limits_local", "limits_shared_again"]


async def test_a_read_only_redis_counts_as_away(tmp_path: Path, hourly: Bucket) -> None:
    valkey = Valkey(
        home=tmp_path / "server",
        port=free_port(),
        password="test",
        durable=False,
        log=tmp_path / "valkey.log",
    )
    child = await asyncio.to_thread(valkey.start)
    process = Process(valkey.url)
    commander = create_redis(valkey.url)
    try:
        async with process.running() as limiter:
            await commander.replicaof("127.0.0.1", "1")
            assert await allowed(limiter, hourly, 30) == 10
            assert await process.is_local()
    finally:
        await commander.aclose(close_connection_pool=True)
        await asyncio.to_thread(child.stop)


async def test_a_process_that_starts_without_its_redis_works(hourly: Bucket) -> None:
    process = Process(f"redis://127.0.0.1:{free_port()}/0")
    async with process.running() as limiter:
        assert await allowed(limiter, hourly, 30) == 10
        assert process.health.degraded == {"limits"}
