"""A real Valkey under a name of its own for each test."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator

import pytest

from fleet_common.limits.shared import SharedBuckets
from fleet_common.redis import Redis, create_redis


@pytest.fixture
def prefix() -> str:
    return f"test:limits:{secrets.token_hex(6)}"


@pytest.fixture
async def redis(redis_url: str) -> AsyncGenerator[Redis]:
    client = create_redis(redis_url)
    yield client
    await client.aclose(close_connection_pool=True)


@pytest.fixture
async def shared(redis: Redis) -> AsyncGenerator[SharedBuckets]:
    buckets = SharedBuckets(redis)
    yield buckets
    await buckets.close()
