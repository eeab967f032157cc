"""The engine of the extra [torch]: equal to the default one, and a clear sentence without it."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from fleet_aiml.embedding.engine.onnx import OnnxEngine
from fleet_aiml.embedding.engine.torch import TorchEngine
from fleet_aiml.embedding.engine.wordpieces import WordPieces
from fleet_aiml.errors import EngineMissing

HAS_TORCH = find_spec("sentence_transformers") is not None


@pytest.mark.skipif(not HAS_TORCH, reason="the extra [torch] is not installed")
@pytest.mark.timeout(120)
def test_both_engines_give_the_same_vectors(onnx: OnnxEngine, words: WordPieces) -> None:
    texts = ["Refunds are possible for 30 days.", "x", "long " * 400, "Łódź, 東京 🚀"]
    torch = TorchEngine(None, words, threads=2)
    pairs = zip(onnx.run(onnx.prepare(texts)), torch.run(torch.prepare(texts)), strict=True)
    assert all(float(ours.vector @ theirs.vector) >= 0.999 for ours, theirs in pairs)


@pytest.mark.skipif(HAS_TORCH, reason="the extra [torch] is installed")
def test_without_the_extra_the_error_names_it(words: WordPieces) -> None:
    with pytest.raises(EngineMissing, match=r"not_configured: .*fleet-aiml\[torch\]"):
        TorchEngine(None, words, threads=1)
