"""When a request is sent again: what is safe, how long to wait, and how much of it in all.

Safe is an idempotent method, or any request with an `Idempotency-Key`, whose body can be read again.
The waits are stamina's (exponential with jitter) unless the server names one in `Retry-After`. All
retries of a client draw on one budget, a tenth of its successes, so that an outage is met with ten
per cent more load and not with three times as much.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from fleet_common.clock import Clock

TRANSIENT_STATUSES = frozenset({502, 503, 504})
"""The dependency, or somebody on the way to it, could not answer just now."""
# RFC 9110, section 9.2.2.
_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how fast; `RetryPolicy(attempts=1)` never retries.

    Attributes:
        attempts: most times one request is sent, the first included.
        wait_initial_s: wait before the first retry, in seconds; it doubles each time.
        wait_max_s: longest wait that we choose ourselves, in seconds.
        wait_jitter_s: most that chance adds to a wait, in seconds.
        budget_ratio: retries that each success pays for.
        budget_floor: retries that are there when there were no successes; they come back within a
            minute.
        statuses: answers that are worth another try; leave 429 out where retrying lengthens the limit.
    """

    attempts: int = 3
    wait_initial_s: float = 0.1
    wait_max_s: float = 2.0
    wait_jitter_s: float = 0.2
    budget_ratio: float = 0.1
    budget_floor: int = 3
    statuses: frozenset[int] = TRANSIENT_STATUSES | {429}

    def longest_wait_s(self, attempt: int) -> float:
        """Return the most that is waited after this attempt (the first is 1), in seconds."""
        backoff: float = self.wait_initial_s * 2.0 ** (attempt - 1)
        return min(self.wait_max_s, backoff + self.wait_jitter_s)


class RetryBudget:
    """A bucket of retries: each success puts a part of one in, each retry takes a whole one out."""

    _FLOOR_BACK_S = 60.0
    _CAPACITY = 100.0

    def __init__(self, policy: RetryPolicy, *, clock: Clock = time.monotonic) -> None:
        self._ratio = policy.budget_ratio
        self._floor = float(policy.budget_floor)
        self._clock = clock
        self._balance = self._floor
        self._refilled_at = clock()

    def deposit(self) -> None:
        """Note a success."""
        self._balance = min(self._balance + self._ratio, max(self._CAPACITY, self._floor))

    def withdraw(self) -> bool:
        """Take one retry; False when there is none left."""
        self._refill()
        # Ten deposits of 0.1 are a hair less than one.
        if self._balance < 1 - 1e-9:
            return False
        self._balance -= 1
        return True

    def _refill(self) -> None:
        now = self._clock()
        earned = self._floor * (now - self._refilled_at) / self._FLOOR_BACK_S
        self._refilled_at = now
        if self._balance < self._floor:
            self._balance = min(self._balance + earned, self._floor)


def is_repeatable(request: httpx.Request) -> bool:
    """Return whether sending the request twice does what sending it once does, and is possible."""
    if request.method not in _IDEMPOTENT and "Idempotency-Key" not in request.headers:
        return False
    try:
        request.content  # noqa: B018 - it raises for a body that can be read only once
    except httpx.RequestNotRead:
        return False
    return True


def retry_after_s(response: httpx.Response) -> float | None:
    """Return the wait that the server asks for, in seconds; None when it names none we understand.

    RFC 9110, section 10.2.3: a number of seconds, or a date.
    """
    value = response.headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    if at.tzinfo is None:
        at = at.replace(tzinfo=UTC)
    return max(0.0, (at - datetime.now(UTC)).total_seconds())
