"""UUID version 7: ids that sort by the time they were made (RFC 9562, section 5.7).

Made here and not by PostgreSQL, because `uuidv7()` is there only from version 18.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from uuid import UUID


class _Clock:
    """Unix time in 4096ths of a millisecond that never shows the same twice (section 6.2, method 3).

    Rows that one process makes within a millisecond so keep their order.
    """

    def __init__(self) -> None:
        self._last = 0

    def tick(self) -> int:
        now = (time.time_ns() << 12) // 1_000_000
        self._last = max(now, self._last + 1)
        return self._last


_clock = _Clock()


def uuid7(
    *, at_ms: int | None = None, random_bits: Callable[[int], int] = secrets.randbits
) -> UUID:
    """Return a fresh id that sorts after all that this process made before.

    Args:
        at_ms: Unix time in milliseconds, for an id in no order with others of that time; now by default.
        random_bits: returns that many random bits; demo data passes a seeded one.
    """
    ticks = _clock.tick() if at_ms is None else at_ms << 12 | random_bits(12)
    moment, fraction = ticks >> 12 & (1 << 48) - 1, ticks & (1 << 12) - 1
    value = moment << 80 | 0x7 << 76 | fraction << 64
    return UUID(int=value | 0b10 << 62 | random_bits(62))
