"""Waiting for a condition, never for a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


async def wait_until(
    holds: Callable[[], Awaitable[bool]], *, within_s: float = 9.0, every_s: float = 0.01
) -> None:
    """Return as soon as `holds()` is true; it is asked again after `every_s` seconds.

    Raises:
        TimeoutError: it was not true within `within_s` seconds.
    """
    async with asyncio.timeout(within_s):
        while not await holds():  # noqa: ASYNC110 - the condition is anything, often in another process
            await asyncio.sleep(every_s)
