"""The client of the fleet's Redis, on a real server and on none."""

from __future__ import annotations

import pytest
from redis.exceptions import ResponseError

from fleet_cli.engines.freeport import free_port
from fleet_common.mcp import Runtime
from fleet_common.redis import REDIS_AWAY, create_redis
from fleet_common.settings import ServiceSettings
from fleet_common.testing.collector import collector


async def test_what_one_process_writes_another_reads(redis_url: str) -> None:
    settings = ServiceSettings(redis_url=redis_url)
    writer, reader = (Runtime.create("test", "0", settings) for _ in range(2))
    async with writer.opened(), reader.opened():
        assert writer.redis is not None
        assert reader.redis is not None
        await writer.redis.set("test:redis:shared", "1", px=10_000)
        assert await reader.redis.get("test:redis:shared") == b"1"


async def test_an_absent_server_is_one_of_the_named_errors() -> None:
    redis = create_redis(f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(REDIS_AWAY):
        await redis.get("anything")
    await redis.aclose()


async def test_traced_commands_and_pipelines_are_spans_without_keys_and_values(
    redis_url: str,
) -> None:
    async with collector() as spans:
        settings = ServiceSettings(redis_url=redis_url, tracing_endpoint=spans.url)
        runtime = Runtime.create("test", "0", settings)
        async with runtime.opened():
            redis = runtime.redis
            assert redis is not None
            await redis.set("test:redis:unseen", "hunter22", px=10_000)
            with runtime.tracing.request(None, "POST", {}):
                await redis.get("test:redis:unseen")
                with pytest.raises(ResponseError):
                    await redis.incr("test:redis:unseen")
                async with redis.pipeline() as pipeline:
                    pipeline.get("test:redis:unseen")
                    pipeline.get("test:redis:none")
                    await pipeline.execute()
    *commands, request = spans.spans
    assert [span.name for span in commands] == ["GET", "INCRBY", "PIPELINE"]
    assert {span.parent_id for span in commands} == {request.span_id}
    assert commands[1].attributes["error.type"] == "ResponseError"
    assert b"unseen" not in b"".join(spans.raw)
    assert b"hunter22" not in b"".join(spans.raw)


async def test_without_a_url_there_is_no_redis() -> None:
    runtime = Runtime.create("test", "0", ServiceSettings())
    async with runtime.opened():
        assert runtime.redis is None
