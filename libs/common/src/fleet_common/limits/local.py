"""Buckets in this process: all there is without Redis, and this replica's share while Redis is away."""

from __future__ import annotations

import time
from typing import Final

from fleet_common.clock import Clock
from fleet_common.limits.buckets import DAY_S, Bucket, Plan, Verdict

# Of a look at a bucket.
_WAIT: Final = 0
_REMAINING: Final = 1
_BUCKET: Final = 3
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
        now = int((self._epoch_s + self._clock()) * 1_000_000)
        shares = plan if replicas == 1 else [bucket.share(replicas) for bucket in plan]
        looks = [self._look(bucket, now) for bucket in shares]
        worst = least = looks[0]
        for look in looks[1:]:
            if look[_WAIT] > worst[_WAIT]:
                worst = look
            if look[_REMAINING] < least[_REMAINING]:
                least = look
        if worst[_WAIT] > 0:
            return Verdict(worst[_BUCKET], worst[_WAIT] / 1_000_000, 0)
        for _, _, taken, bucket in looks:
            self._state[bucket.key] = taken
        if len(self._state) > self._sweep_at:
            self._sweep(now)
        return Verdict(least[_BUCKET], 0.0, least[_REMAINING])

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
        arrival = (min(value, now + full) if value > now else now) + bucket.interval_us
        spare = now + full - arrival
        return (
            (0 if spare >= 0 else -spare),
            spare // bucket.interval_us,
            (arrival, arrival),
            bucket,
        )

    def _sweep(self, now: int) -> None:
        self._state = {key: row for key, row in self._state.items() if row[1] > now}
        self._sweep_at = max(_KEPT, 2 * len(self._state))  # each sweep pays for itself
