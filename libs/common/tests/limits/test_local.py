"""The buckets of one process."""

from __future__ import annotations

import pytest

from fleet_common.clock import ManualClock
from fleet_common.limits import Bucket
from fleet_common.limits.local import LocalBuckets

CALLS = Bucket.rate("calls", "calls", per_minute=60, burst=4)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def buckets(clock: ManualClock) -> LocalBuckets:
    return LocalBuckets(clock)


def test_a_burst_goes_at_once_and_the_next_call_after_one_interval(
    buckets: LocalBuckets, clock: ManualClock
) -> None:
    remaining = [buckets.decide([CALLS]).remaining for _ in range(4)]
    refused = buckets.decide([CALLS])
    clock.advance(1)
    assert remaining == [3, 2, 1, 0]
    assert refused.wait_s == pytest.approx(1)
    assert buckets.decide([CALLS]).is_allowed
    assert not buckets.decide([CALLS]).is_allowed


def test_the_share_of_one_of_two_replicas_is_half(
    buckets: LocalBuckets, clock: ManualClock
) -> None:
    allowed = [buckets.decide([CALLS], replicas=2).is_allowed for _ in range(4)]
    clock.advance(2)
    assert allowed == [True, True, False, False]
    assert buckets.decide([CALLS], replicas=2).is_allowed
    assert not buckets.decide([CALLS], replicas=2).is_allowed


def test_every_replica_may_give_away_something(buckets: LocalBuckets) -> None:
    assert buckets.decide([CALLS], replicas=100).is_allowed


def test_a_refused_call_takes_nothing_from_its_other_buckets(buckets: LocalBuckets) -> None:
    tight = Bucket.rate("tight", "tool", per_minute=1, burst=1)
    verdicts = [buckets.decide([tight, CALLS]) for _ in range(10)]
    assert [verdict.is_allowed for verdict in verdicts] == [True] + [False] * 9
    assert verdicts[1].bucket.policy == "tool"
    assert buckets.decide([CALLS]).remaining == 2


def test_a_quota_begins_anew_with_the_utc_day(buckets: LocalBuckets, clock: ManualClock) -> None:
    quota = Bucket.daily("day", "day", calls=1)
    first, second = buckets.decide([quota]), buckets.decide([quota])
    clock.advance(second.wait_s + 0.001)
    assert (first.is_allowed, second.is_allowed) == (True, False)
    assert 0 < second.wait_s <= 86_400
    assert buckets.decide([quota]).is_allowed


def test_buckets_that_are_full_again_are_forgotten(
    buckets: LocalBuckets, clock: ManualClock
) -> None:
    for number in range(10_001):
        clock.advance(0.001)
        buckets.decide([Bucket.rate(f"caller {number}", "calls", per_minute=60, burst=1)])
    assert len(buckets._state) <= 1001


@pytest.mark.parametrize("per_minute", [1, 7, 60, 1000, 7_000_000])
def test_a_rate_is_never_rounded_up(per_minute: int) -> None:
    bucket = Bucket.rate("x", "calls", per_minute=per_minute, burst=1)
    assert bucket.interval_us * per_minute >= 60_000_000
