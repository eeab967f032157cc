from __future__ import annotations

import asyncio

import pytest

from fleet_common.errors import Unavailable
from fleet_common.testing import wait_until
from fleet_gateway.routing.connections import Connections


async def test_connections_are_renewed_and_closed_when_their_last_request_is_over() -> None:
    connections = Connections(connect_timeout_s=1, max_age_s=0.02)
    async with connections.opened():
        first = connections.current
        with first as session:

            async def is_renewed() -> bool:
                return connections.current is not first

            await wait_until(is_renewed)
            await asyncio.sleep(0.05)
            assert not session.closed

        async def is_closed() -> bool:
            return session.closed

        await wait_until(is_closed)
        last = connections.current
    assert last.session.closed


async def test_a_closed_gateway_has_no_connections() -> None:
    with pytest.raises(Unavailable):
        _ = Connections(connect_timeout_s=1).current
