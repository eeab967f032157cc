"""A queue in front of an engine that tests can hold."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from fleet_aiml.embedding.batches import BatchLimits
from fleet_aiml.embedding.service import EmbedQueue
from fleet_aiml.testing import WordEngine


@pytest.fixture
def engine() -> WordEngine:
    return WordEngine()


@pytest.fixture
async def queue(engine: WordEngine) -> AsyncIterator[EmbedQueue]:
    limits = BatchLimits(max_tokens=64, max_items=8)
    opened = EmbedQueue(
        "words", lambda: engine, guess=lambda text: len(text.split()), limits=limits, max_waiting=20
    )
    async with opened:
        yield opened
        engine.gate.set()
