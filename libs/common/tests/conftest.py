"""What the tests of several packages share."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from fleet_common.redis import Redis, create_redis


@pytest.fixture
async def redis(redis_url: str) -> AsyncGenerator[Redis]:
    """A client of this session's Redis."""
    client = create_redis(redis_url, timeout_s=8)
    yield client
    await client.aclose(close_connection_pool=True)
