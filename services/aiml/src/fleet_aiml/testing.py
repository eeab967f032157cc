"""What tests of this service share: an engine without a model, which can be held and made to fail."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Sequence

import numpy as np

from fleet_aiml.embedding.models import Embedding, ModelInfo

POISON = "poison"
"""A text with this word makes `WordEngine.run` fail."""

TEST_MODEL = ModelInfo(
    name="words", revision="0" * 64, dimension=64, max_tokens=256, query_prefix="query: "
)


class WordEngine:
    """Embeds a text as the set of its words, so that texts with common words are near each other.

    Attributes:
        batches: the token lists of each forward pass, in order.
        gate: cleared, it holds every forward pass until it is set again.
        entered: set as soon as a forward pass has begun.
    """

    def __init__(self) -> None:
        self.batches: list[list[list[int]]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def prepare(self, items: Sequence[str]) -> Sequence[list[int]]:
        """Return one number for each word."""
        for item in items:
            item.encode()  # like a real tokenizer, refuses lone surrogates
        return [word_ids(item) for item in items]

    def run(self, batch: Sequence[list[int]]) -> Sequence[Embedding]:
        """Return unit vectors; fail for a text with the word `poison`."""
        self.batches.append([list(tokens) for tokens in batch])
        self.entered.set()
        self.gate.wait()
        if any(word_ids(POISON)[0] in tokens for tokens in batch):
            raise ValueError("the model choked")
        return [_embed(tokens) for tokens in batch]


def word_ids(text: str) -> list[int]:
    """Return the number of each word of a text; the same word has the same number."""
    words = "".join(c if c.isalnum() else " " for c in text.lower()).split()
    return [zlib.crc32(word.encode()) for word in words] or [0]


def word_spans(text: str) -> list[tuple[int, int]]:
    """Return where each word begins and ends: tokens for tests of chunking."""
    spans, position = [], 0
    for word in text.split():
        start = text.index(word, position)
        position = start + len(word)
        spans.append((start, position))
    return spans


def _embed(tokens: Sequence[int]) -> Embedding:
    vector = np.zeros(TEST_MODEL.dimension, np.float32)
    for token in tokens:
        vector[token % TEST_MODEL.dimension] += 1
    return Embedding(vector / np.linalg.norm(vector), len(tokens))
