"""Texts to vectors."""

from __future__ import annotations

import numpy as np
import pytest

from fleet_aiml.embedding.service import Embedder, EmbedQueue, guess_tokens, unit
from fleet_aiml.testing import TEST_MODEL, WordEngine, word_ids
from fleet_common.deadline import deadline
from fleet_common.errors import DeadlineExceeded


async def test_each_text_has_its_row(queue: EmbedQueue) -> None:
    vectors, tokens = await Embedder(queue, TEST_MODEL).embed(["a b", "c"], kind="passage")
    assert vectors.shape == (2, TEST_MODEL.dimension)
    assert tokens == [2, 1]


async def test_a_question_gets_the_prefix_the_model_wants(
    engine: WordEngine, queue: EmbedQueue
) -> None:
    await Embedder(queue, TEST_MODEL).embed(["why"], kind="query")
    assert engine.batches == [[word_ids("query: why")]]


async def test_no_texts_are_an_empty_matrix(queue: EmbedQueue) -> None:
    vectors, tokens = await Embedder(queue, TEST_MODEL).embed([], kind="passage", normalize=False)
    assert vectors.shape == (0, TEST_MODEL.dimension)
    assert tokens == []


async def test_a_call_without_time_left_is_refused(queue: EmbedQueue) -> None:
    with deadline(-1), pytest.raises(DeadlineExceeded):
        await Embedder(queue, TEST_MODEL).embed(["late"], kind="query")


def test_unit_repairs_lengths_and_leaves_zero_alone() -> None:
    scaled = unit(np.array([[3, 4], [0, 0]], np.float32))
    assert scaled.tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0, 0]]


@pytest.mark.parametrize(("text", "tokens"), [("", 2), ("x" * 40, 12), ("x" * 10_000, 256)])
def test_the_guess_grows_with_the_text_up_to_the_models_limit(text: str, tokens: int) -> None:
    assert guess_tokens(text, max_tokens=256) == tokens
