"""The time a call has left, known to every hop and query below it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from fleet_common.errors import DeadlineExceeded

TIMEOUT_HEADER = "Fleet-Timeout-Ms"
"""HTTP header that carries the remaining time, in milliseconds, to the next hop."""

_ends_at: ContextVar[float | None] = ContextVar("fleet_deadline", default=None)


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Give the block at most `seconds`; an outer deadline that ends earlier stays in force.

    The block is not interrupted: whoever waits inside asks `remaining()`.
    """
    ends_at = time.monotonic() + seconds
    outer = _ends_at.get()
    reset = _ends_at.set(ends_at if outer is None else min(outer, ends_at))
    try:
        yield
    finally:
        _ends_at.reset(reset)


def remaining(at_most: float) -> float:
    """Return the seconds that one step may take: `at_most`, or less when the call has less left.

    Raises:
        DeadlineExceeded: nothing is left.
    """
    ends_at = _ends_at.get()
    if ends_at is None:
        return at_most
    left = ends_at - time.monotonic()
    if left <= 0:
        raise DeadlineExceeded("the time for this call is over")
    return min(at_most, left)
