"""Buckets in this process: all there is without Redis, and this replica's share while Redis is away."""

from __future__ import annotations

import time
from operator import itemgetter

from fleet_common.clock import Clock
from fleet_common.limits.buckets import DAY_S, Bucket, Plan, Verdict

_WAIT, _REMAINING = itemgetter(0), itemgetter(1)  # of a look at a bucket
_KEPT = 10_000  # buckets, before those that are full again are dropped


class LocalBuckets:
    """The same algorithm as the script of `shared`, on a dictionary.

    Time is a monotonic clock set to UTC once, so that a corrected clock neither opens nor shuts a bucket.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._epoch_s = time.time() - clock()
        self._state: dict[str, tuple[int, int]] = {}  # key: (value, when it is void, in µs)
        self._sweep_at = _KEPT

    def decide(self, plan: Plan, *, replicas: int = 1) -> Verdict:
        """Return whether a call fits into this process's share of every bucket, and take it if so."""
        now = round((self._epoch_s + self._clock()) * 1_000_000)
        shares = plan if replicas == 1 else [bucket.share(replicas) for bucket in plan]
        looks = [self._look(bucket, now) for bucket in shares]
        wait_us, _, _, worst = max(looks, key=_WAIT)
        if wait_us > 0:
            return Verdict(worst, wait_us / 1_000_000, 0)
        for _, _, taken, bucket in looks:
            self._state[bucket.key] = taken
        self._sweep(now)
        _, remaining, _, least = min(looks, key=_REMAINING)
        return Verdict(least, 0.0, remaining)

    def _look(self, bucket: Bucket, now: int) -> tuple[int, int, tuple[int, int], Bucket]:
        """Return (wait, remaining, state after the call, bucket)."""
        value, void_at = self._state.get(bucket.key, (0, 0))
        if void_at <= now:
            value = 0
        if not bucket.interval_us:
            midnight = (now // (DAY_S * 1_000_000) + 1) * DAY_S * 1_000_000
            left = bucket.capacity - value - 1
            return (0 if left >= 0 else midnight - now), left, (value + 1, midnight), bucket
        full = bucket.interval_us * bucket.capacity
        arrival = max(now, min(value, now + full)) + bucket.interval_us
        spare = now + full - arrival
        return max(0, -spare), spare // bucket.interval_us, (arrival, arrival), bucket

    def _sweep(self, now: int) -> None:
        if len(self._state) > self._sweep_at:
            self._state = {key: row for key, row in self._state.items() if row[1] > now}
            self._sweep_at = max(_KEPT, 2 * len(self._state))  # each sweep pays for itself
