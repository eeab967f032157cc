"""A real Valkey under a name of its own for each test."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator

import pytest

from fleet_common.limits.shared import SharedBuckets
from fleet_common.redis import Redis


@pytest.fixture
def prefix() -> str:
    return f"test:limits:{secrets.token_hex(6)}"


@pytest.fixture
async def shared(redis: Redis) -> AsyncGenerator[SharedBuckets]:
    buckets = SharedBuckets(redis)
    yield buckets
    await buckets.close()
