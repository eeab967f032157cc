from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import stamina

from fleet_common.testing.upstream import Upstream, upstream_server


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with upstream_server() as server:
        yield server


@pytest.fixture
def no_waits() -> Iterator[None]:
    """Retry at once: stamina's own switch, with the attempts that each policy names."""
    with stamina.set_testing(True, attempts=10, cap=True):
        yield
