"""UUID version 7: ids that sort by the time they were made (RFC 9562, section 5.7).

Made here and not by PostgreSQL, because `uuidv7()` is there only from version 18.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from uuid import UUID


def uuid7(
    *, at_ms: int | None = None, random_bits: Callable[[int], int] = secrets.randbits
) -> UUID:
    """Return a fresh id.

    Args:
        at_ms: Unix time in milliseconds; now by default.
        random_bits: returns that many random bits; demo data passes a seeded one.
    """
    moment = time.time_ns() // 1_000_000 if at_ms is None else at_ms
    value = (moment & (1 << 48) - 1) << 80 | 0x7 << 76 | random_bits(12) << 64
    return UUID(int=value | 0b10 << 62 | random_bits(62))
