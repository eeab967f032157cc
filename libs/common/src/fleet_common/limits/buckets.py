"""Buckets: what a limit is made of, and what a decision about one call says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import NamedTuple

_MINUTE_US = 60_000_000
DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Bucket:
    """One limit of one holder, the same in every replica.

    Attributes:
        key: name of its state.
        policy: what callers and metrics call it: `calls`, `lists`, `tool`, `tenant` or `day`.
        capacity: calls that may come at once, or calls of one UTC day.
        interval_us: time after which one more call is free, in microseconds; 0 makes it a daily quota.
        told: what answers say about it, as draft-ietf-httpapi-ratelimit-headers-10 writes it.
    """

    key: str
    policy: str
    capacity: int
    interval_us: int
    told: bytes = field(init=False, compare=False)

    def __post_init__(self) -> None:
        told = f'"{self.policy}";q={self.capacity};w={self.window_s}'
        object.__setattr__(self, "told", told.encode())

    @classmethod
    def rate(cls, key: str, policy: str, *, per_minute: int, burst: int) -> Bucket:
        """Return a rate limit; the interval is rounded up, so the rate is never exceeded."""
        return cls(key, policy, burst, ceil(_MINUTE_US / per_minute))

    @classmethod
    def daily(cls, key: str, policy: str, *, calls: int) -> Bucket:
        """Return a quota of `calls` in each UTC day."""
        return cls(key, policy, calls, 0)

    def share(self, replicas: int) -> Bucket:
        """Return the part of this bucket that one of `replicas` processes may give away alone."""
        return Bucket(
            self.key, self.policy, max(1, self.capacity // replicas), self.interval_us * replicas
        )

    @property
    def window_s(self) -> int:
        """Seconds in which the whole capacity comes back."""
        return ceil(self.capacity * self.interval_us / 1_000_000) if self.interval_us else DAY_S


Plan = Sequence[Bucket]
"""All buckets one call must fit into; it takes one unit from each, or nothing from any."""


class Verdict(NamedTuple):
    """The answer for one call.

    Attributes:
        bucket: the one that refused for longest, else the one with the least left.
        wait_s: seconds until the call would be allowed; 0 when it is.
        remaining: calls left in `bucket` after this one.
    """

    bucket: Bucket
    wait_s: float
    remaining: int

    @property
    def is_allowed(self) -> bool:
        """Whether the call may go on."""
        return self.wait_s <= 0
