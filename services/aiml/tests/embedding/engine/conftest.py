"""The real model, loaded once."""

from __future__ import annotations

import pytest

from fleet_aiml.embedding.engine.onnx import OnnxEngine
from fleet_aiml.embedding.engine.wordpieces import WordPieces
from fleet_aiml.embedding.models import ALL_MINILM_L6_V2


@pytest.fixture(scope="session")
def words() -> WordPieces:
    return WordPieces(None, max_tokens=ALL_MINILM_L6_V2.max_tokens)


@pytest.fixture(scope="session")
def onnx(words: WordPieces) -> OnnxEngine:
    return OnnxEngine(None, words, threads=2)
