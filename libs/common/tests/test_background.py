"""Work beside a block."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from fleet_common.background import background


async def test_it_runs_with_the_block_and_ends_with_it() -> None:
    running, ended = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with background(work(), name="test"):
        await running.wait()
    assert ended.is_set()


async def test_work_that_loses_a_cancellation_is_cancelled_again() -> None:
    lost = 0

    async def work() -> None:
        nonlocal lost
        while lost < 2:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                lost += 1
        await asyncio.Event().wait()

    async with background(work(), name="test"):
        await asyncio.sleep(0)
    assert lost == 2


async def test_the_blocks_own_exception_comes_out_as_it_is() -> None:
    with pytest.raises(KeyError):
        async with background(asyncio.sleep(60), name="test"):
            raise KeyError


async def test_work_that_fails_is_logged_and_leaves_the_block_alone() -> None:
    async def work() -> None:
        raise ValueError("broken")

    with capture_logs() as lines:
        async with background(work(), name="test"):
            await asyncio.sleep(0.01)
    (line,) = lines
    assert (line["event"], line["task"]) == ("background_failed", "test")
