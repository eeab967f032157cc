"""The script on a real server, against a model that is written differently: a bucket that leaks."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet_common.limits import Bucket
from fleet_common.limits.buckets import DAY_S
from fleet_common.limits.shared import SharedBuckets
from fleet_common.redis import Redis, create_redis

_SECOND = 1_000_000


def bucket(key: str, capacity: int, interval_s: int) -> Bucket:
    return Bucket(key, "calls", capacity, interval_s * _SECOND)


@dataclass
class Leaky:
    """A bucket as a textbook draws it: calls fill it, one leaks out every interval."""

    capacity: int
    interval_s: int
    level: float = 0.0

    def pass_time(self, seconds: float) -> None:
        if self.interval_s:
            self.level = max(0.0, self.level - seconds / self.interval_s)

    @property
    def has_room(self) -> bool:
        return self.level + 1 <= self.capacity + 1e-9

    @property
    def wait_s(self) -> float:
        return 0.0 if self.has_room else (self.level + 1 - self.capacity) * self.interval_s


@dataclass
class Model:
    """Every decision looks at all of its buckets and takes from all or none."""

    buckets: list[Leaky]

    def decide(self, chosen: Sequence[int]) -> tuple[bool, float]:
        leaky = [self.buckets[i] for i in chosen]
        if all(each.has_room for each in leaky):
            for each in leaky:
                each.level += 1
            return True, 0.0
        return False, max(each.wait_s for each in leaky)


async def let_time_pass(redis: Redis, rows: Sequence[Bucket], seconds: float) -> None:
    """Move what the buckets hold into the past: to the script it is as if `seconds` had passed."""
    rows = [row for row in rows if row.interval_us]
    if rows and seconds:
        held = await redis.mget([row.key for row in rows])
        past = round(seconds * _SECOND)
        async with redis.pipeline(transaction=False) as pipeline:
            for row, value in zip(rows, held, strict=True):
                if value is not None:
                    pipeline.set(row.key, int(value) - past, px=60_000)
            await pipeline.execute()


# A step is a batch of decisions (which buckets each takes from) and the half seconds that pass after it: real time,
# some milliseconds, then never decides.
STEPS = st.lists(
    st.tuples(
        st.lists(
            st.lists(st.integers(0, 3), min_size=1, max_size=4, unique=True),
            min_size=1,
            max_size=6,
        ),
        st.sampled_from([0.0, 0.5, 2.5, 7.5, 61.5]),
    ),
    min_size=1,
    max_size=8,
)
SHAPES = st.lists(
    st.tuples(st.integers(1, 5), st.sampled_from([0, 1, 3, 10])), min_size=4, max_size=4
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(shapes=SHAPES, steps=STEPS)
async def test_the_script_decides_as_a_leaking_bucket(
    redis_url: str, shapes: list[tuple[int, int]], steps: list[tuple[list[list[int]], float]]
) -> None:
    redis = create_redis(redis_url, timeout_s=8)
    shared = SharedBuckets(redis)
    name = secrets.token_hex(6)
    rows = [
        bucket(f"test:model:{name}:{i}", *shape) if shape[1] else Bucket.daily(
            f"test:model:{name}:{i}", "day", calls=shape[0]
        )
        for i, shape in enumerate(shapes)
    ]  # fmt: skip
    model = Model([Leaky(*shape) for shape in shapes])
    try:
        for decisions, passed_s in steps:
            verdicts = await shared.decide([[rows[i] for i in chosen] for chosen in decisions])
            for chosen, verdict in zip(decisions, verdicts, strict=True):
                is_allowed, wait_s = model.decide(chosen)
                assert verdict.is_allowed == is_allowed
                if all(shapes[i][1] for i in chosen):
                    assert verdict.wait_s == pytest.approx(wait_s, abs=0.4)
            await let_time_pass(redis, rows, passed_s)
            for each in model.buckets:
                each.pass_time(passed_s)
    finally:
        await shared.close()
        await redis.aclose(close_connection_pool=True)


async def test_callers_of_many_replicas_never_exceed_the_limit_together(
    redis_url: str, prefix: str
) -> None:
    clients = [create_redis(redis_url, timeout_s=8) for _ in range(4)]
    replicas = [SharedBuckets(client) for client in clients]
    caller, tenant = bucket(f"{prefix}:caller", 50, 3600), bucket(f"{prefix}:tenant", 70, 3600)

    async def ask(shared: SharedBuckets) -> int:
        plans = [[caller, tenant]] * 10 + [[tenant]] * 10
        verdicts = [verdict for _ in range(3) for verdict in await shared.decide(plans)]
        return sum(verdict.is_allowed for verdict in verdicts)

    allowed = await asyncio.gather(*(ask(shared) for shared in replicas))
    assert sum(allowed) == 70
    (verdict,) = await replicas[0].decide([[caller]])
    spent = 50 - 1 - verdict.remaining if verdict.is_allowed else 50
    assert spent <= 50
    for shared, client in zip(replicas, clients, strict=True):
        await shared.close()
        await client.aclose(close_connection_pool=True)


async def test_a_refused_call_takes_nothing_from_its_other_buckets(
    redis: Redis, shared: SharedBuckets, prefix: str
) -> None:
    tight, wide = bucket(f"{prefix}:tight", 1, 3600), bucket(f"{prefix}:wide", 3, 3600)
    verdicts = await shared.decide([[tight, wide], [tight, wide], [tight, wide], [wide], [wide]])
    assert [verdict.is_allowed for verdict in verdicts] == [True, False, False, True, True]
    assert verdicts[1].bucket == tight


async def test_the_clock_of_a_replica_plays_no_part(
    redis: Redis, shared: SharedBuckets, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [bucket(f"{prefix}:rate", 1, 3600), Bucket.daily(f"{prefix}:day", "day", calls=1)]
    await shared.decide([[row] for row in rows])
    monkeypatch.setattr(time, "time", lambda: 4e9)
    verdicts = await shared.decide([[row] for row in rows])
    assert [verdict.is_allowed for verdict in verdicts] == [False, False]


async def test_a_quota_is_for_the_utc_day_and_leaves_nothing_behind(
    redis: Redis, shared: SharedBuckets, prefix: str
) -> None:
    quota = Bucket.daily(f"{prefix}:day", "day", calls=2)
    first, second, third = await shared.decide([[quota]] * 3)
    seconds, _ = await redis.time()
    midnight = (seconds // DAY_S + 1) * DAY_S
    assert (first.remaining, second.remaining, third.is_allowed) == (1, 0, False)
    assert third.wait_s == pytest.approx(midnight - seconds, abs=2)
    assert await redis.expiretime(quota.key) == midnight


async def test_state_expires_when_the_bucket_is_full_again(
    redis: Redis, shared: SharedBuckets, prefix: str
) -> None:
    row = bucket(f"{prefix}:rate", 10, 3)
    await shared.decide([[row]] * 2)
    assert await redis.pttl(row.key) == pytest.approx(6000, abs=500)


async def test_an_arrival_time_from_a_clock_ahead_costs_one_window_at_most(
    redis: Redis, shared: SharedBuckets, prefix: str
) -> None:
    row = bucket(f"{prefix}:rate", 5, 2)
    await redis.set(row.key, 10**17, px=60_000)
    (verdict,) = await shared.decide([[row]])
    assert verdict.wait_s == pytest.approx(2, abs=0.5)


async def test_a_restarted_server_that_forgot_the_script_is_told_again(
    redis: Redis, shared: SharedBuckets, prefix: str
) -> None:
    row = bucket(f"{prefix}:rate", 2, 3600)
    await shared.decide([[row]])
    await redis.script_flush()
    verdicts = await shared.decide([[row], [row]])
    assert [verdict.is_allowed for verdict in verdicts] == [True, False]
