"""The client of the fleet's Redis, on a real server and on none."""

from __future__ import annotations

import pytest

from fleet_cli.engines.freeport import free_port
from fleet_common.mcp import Runtime
from fleet_common.redis import REDIS_AWAY, create_redis
from fleet_common.settings import ServiceSettings


async def test_what_one_process_writes_another_reads(redis_url: str) -> None:
    settings = ServiceSettings(redis_url=redis_url)
    writer, reader = (Runtime.create("test", "0", settings) for _ in range(2))
    async with writer.opened(), reader.opened():
        assert writer.redis is not None and reader.redis is not None
        await writer.redis.set("test:redis:shared", "1", px=10_000)
        assert await reader.redis.get("test:redis:shared") == b"1"


async def test_an_absent_server_is_one_of_the_named_errors() -> None:
    redis = create_redis(f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(REDIS_AWAY):
        await redis.get("anything")
    await redis.aclose()


async def test_without_a_url_there_is_no_redis() -> None:
    runtime = Runtime.create("test", "0", ServiceSettings())
    async with runtime.opened():
        assert runtime.redis is None
