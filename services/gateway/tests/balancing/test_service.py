from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from fleet_common.clock import ManualClock
from fleet_common.deadline import deadline
from fleet_common.errors import Unavailable
from fleet_common.metrics import Metrics
from fleet_gateway.balancing.models import Endpoint
from fleet_gateway.balancing.service import Pool, PoolMetrics, PoolOptions

THREE = tuple(f"http://10.0.0.{n}:8081" for n in (1, 2, 3))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(100.0)


async def pool_of(
    *urls: str, clock: ManualClock | None = None, options: PoolOptions | None = None
) -> Pool:
    pool = Pool(
        "data",
        urls,
        PoolMetrics(Metrics("gateway")),
        options or PoolOptions(),
        clock=clock or ManualClock(100.0),
    )
    await pool.discover()
    return pool


async def chosen(pool: Pool, times: int = 300) -> Counter[str]:
    return Counter([(await pool.choose()).address.origin for _ in range(times)])


async def test_idle_endpoints_get_equal_shares() -> None:
    shares = await chosen(await pool_of(*THREE))
    assert set(shares) == set(THREE)
    assert min(shares.values()) > 50


async def test_the_busiest_endpoint_of_three_is_never_chosen() -> None:
    pool = await pool_of(*THREE)
    pool.endpoints[0].in_flight = 5
    assert set(await chosen(pool)) == set(THREE[1:])


async def test_a_slow_endpoint_gets_less_until_its_slowness_is_forgotten(
    clock: ManualClock,
) -> None:
    pool = await pool_of(*THREE, clock=clock)
    for _ in range(20):
        pool.answered(pool.endpoints[0], 2.0)
    assert THREE[0] not in await chosen(pool)
    clock.advance(120)
    assert THREE[0] in await chosen(pool)


async def test_three_failures_in_a_row_put_an_endpoint_out_for_a_second(
    clock: ManualClock,
) -> None:
    pool = await pool_of(*THREE, clock=clock)
    bad = pool.endpoints[0]
    pool.failed(bad)
    pool.answered(bad, 0.01)
    pool.failed(bad)
    pool.failed(bad)
    assert THREE[0] in await chosen(pool)
    pool.failed(bad)
    assert THREE[0] not in await chosen(pool)
    assert pool.ejected == 1
    clock.advance(1.01)
    assert THREE[0] in await chosen(pool)


async def test_the_pause_doubles_up_to_half_a_minute_and_an_answer_resets_it(
    clock: ManualClock,
) -> None:
    pool = await pool_of(*THREE, clock=clock)
    bad = pool.endpoints[0]

    def pause() -> float:
        pool.failed(bad, is_certain=True)
        length = bad.out_until - clock()
        clock.advance(length + 0.001)
        return round(length, 3)

    assert [pause() for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    pool.answered(bad, 0.01)
    assert pause() == 1


async def test_the_last_endpoint_is_never_put_out() -> None:
    pool = await pool_of(*THREE)
    for endpoint in pool.endpoints:
        pool.failed(endpoint, is_certain=True)
    assert pool.ejected == 2
    assert len(await chosen(pool)) == 1


async def test_what_was_tried_is_chosen_again_only_when_nothing_else_is_there() -> None:
    pool = await pool_of(*THREE)
    tried: list[Endpoint] = []
    for _ in THREE:
        assert pool.has_other(tried)
        tried.append(await pool.choose(tried))
    assert len(set(tried)) == 3
    assert not pool.has_other(tried)
    assert await pool.choose(tried) in tried


async def test_known_endpoints_keep_their_state_when_addresses_come_and_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pool = await pool_of(*THREE)
    kept = pool.endpoints[2]
    kept.in_flight = 7
    monkeypatch.setattr(pool, "_urls", (THREE[2], "http://10.0.0.9:8081"))
    await pool.discover()
    assert kept in pool.endpoints
    assert {e.address.origin for e in pool.endpoints} == {THREE[2], "http://10.0.0.9:8081"}


async def test_a_call_is_held_until_there_is_an_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = await pool_of()
    waiting = asyncio.create_task(pool.choose())
    await asyncio.sleep(0)
    assert not waiting.done()
    monkeypatch.setattr(pool, "_urls", THREE[:1])
    await pool.discover()
    assert (await waiting).address.origin == THREE[0]


async def test_holding_ends_with_the_callers_deadline() -> None:
    pool = await pool_of()
    with deadline(0.02), pytest.raises(Unavailable) as refused:
        await pool.choose()
    assert refused.value.retry_after_s == 2.0


async def test_holding_ends_with_its_own_budget() -> None:
    pool = await pool_of(options=PoolOptions(hold_s=0.02))
    with pytest.raises(Unavailable):
        await pool.choose()


async def test_only_so_many_calls_are_held() -> None:
    pool = await pool_of(options=PoolOptions(hold_s=5))
    held = [asyncio.create_task(pool.choose()) for _ in range(128)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await asyncio.wait_for(pool.choose(), 0.5)
    for task in held:
        task.cancel()
    await asyncio.gather(*held, return_exceptions=True)


async def test_an_open_breaker_says_when_to_come_back() -> None:
    pool = await pool_of(*THREE)
    for _ in range(10):
        pool.permit().failed()
    with pytest.raises(Unavailable) as refused:
        pool.permit()
    assert refused.value.retry_after_s == pytest.approx(5.0)
