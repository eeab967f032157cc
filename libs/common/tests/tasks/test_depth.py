from __future__ import annotations

import math
import secrets

import anyio.to_thread

from fleet_cli.engines.freeport import free_port
from fleet_common.metrics import Metrics
from fleet_common.redis import Redis, create_redis
from fleet_common.tasks import QueueDepth, queue_name


async def queued(redis: Redis, *stamps_ms: int) -> str:
    """Return a service whose queue has one message for each time."""
    service = f"depth{secrets.token_hex(4)}"
    for stamp in stamps_ms:
        await redis.xadd(f"{queue_name(service)}:stream", {"key": "x"}, id=f"{stamp}-0")
    return service


async def test_a_queue_that_nobody_used_is_empty(redis: Redis) -> None:
    assert await QueueDepth(redis, "depth-unused").measure() == (0, 0.0)


async def test_before_the_first_worker_came_the_oldest_task_waits(redis: Redis) -> None:
    service = await queued(redis, 1_000_000, 1_005_000)
    depth = QueueDepth(redis, service, now=lambda: 1_010.0)
    assert await depth.measure() == (2, 10.0)


async def test_a_running_task_counts_but_does_not_wait(redis: Redis) -> None:
    service = await queued(redis, 1_000_000, 1_005_000)
    stream = f"{queue_name(service)}:stream"
    await redis.xgroup_create(stream, "docket-workers", id="0-0")
    await redis.xreadgroup("docket-workers", "me", {stream: ">"}, count=1)
    depth = QueueDepth(redis, service, now=lambda: 1_010.0)
    assert await depth.measure() == (2, 5.0)
    await redis.xreadgroup("docket-workers", "me", {stream: ">"}, count=1)
    assert await depth.measure() == (2, 0.0)


async def test_a_scrape_shows_both_numbers_of_the_queue(redis: Redis) -> None:
    service = await queued(redis, 1_000_000)
    metrics = Metrics("test")
    QueueDepth(redis, service, now=lambda: 1_007.0).export(metrics, service)
    text = (await anyio.to_thread.run_sync(metrics.render))[0].decode()
    assert f'mcp_tasks_pending{{queue="{service}",service="test"}} 1.0' in text
    assert f'mcp_tasks_oldest_seconds{{queue="{service}",service="test"}} 7.0' in text


async def test_while_redis_is_away_the_numbers_are_unknown_and_the_others_stay() -> None:
    redis = create_redis(f"redis://127.0.0.1:{free_port()}/0")
    metrics = Metrics("test")
    QueueDepth(redis, "gone").export(metrics, "gone")
    text = (await anyio.to_thread.run_sync(metrics.render))[0].decode()
    values = [line.split()[-1] for line in text.splitlines() if line.startswith("mcp_tasks_")]
    assert [math.isnan(float(value)) for value in values] == [True, True]
    assert "mcp_admission_waiting" in text
    await redis.aclose(close_connection_pool=True)
