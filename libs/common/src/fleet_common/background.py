"""Work that goes on beside a block: begun with it, ended with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager

import structlog

log = structlog.get_logger()

_CANCEL_AGAIN_S = 0.1


@asynccontextmanager
async def background(work: Coroutine[object, object, None], *, name: str) -> AsyncGenerator[None]:
    """Run `work` as a task while the block runs, and cancel it after.

    Unlike a task group it leaves the block's own exceptions as they are. Work that fails is logged at once.
    """
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(_tell)
    try:
        yield
    finally:
        while not task.done():
            # Again and again: asyncio.wait_for of Python 3.11, which redis-py uses, returns a result that comes at
            # the same moment instead of being cancelled (python/cpython#86296).
            task.cancel()
            await asyncio.wait([task], timeout=_CANCEL_AGAIN_S)


def _tell(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (failure := task.exception()) is not None:
        log.error("background_failed", task=task.get_name(), exc_info=failure)
