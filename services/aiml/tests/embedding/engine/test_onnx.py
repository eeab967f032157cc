"""The default engine computes what sentence-transformers computes in fp32."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import numpy as np
import onnx as onnx_format
import pytest

from fleet_aiml.embedding.engine.onnx import OnnxEngine
from fleet_aiml.embedding.models import ALL_MINILM_L6_V2, Vectors

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return list(json.loads((GOLDEN / "texts.json").read_text()))


def embed(engine: OnnxEngine, texts: list[str]) -> Vectors:
    return np.stack([e.vector for e in engine.run(engine.prepare(texts))])


def cosines(left: Vectors, right: Vectors) -> Vectors:
    product: Vectors = (left * right).sum(axis=1)
    return product


def test_vectors_equal_the_golden_ones(onnx: OnnxEngine, texts: list[str]) -> None:
    golden = np.load(GOLDEN / "vectors.npy")
    assert cosines(embed(onnx, texts), golden).min() >= 0.99999


def test_nobody_is_told_what_is_run() -> None:
    """ONNX Runtime, unless it is told not to or finds itself in CI, complains of a home where it cannot keep its id."""
    run = "import time; from fleet_aiml.embedding.engine import onnx; time.sleep(1)"
    home = {"HOME": "/proc/none"}
    done = subprocess.run(
        [sys.executable, "-c", run], env=home, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""


def test_padding_changes_nothing(onnx: OnnxEngine, texts: list[str]) -> None:
    alone = np.concatenate([embed(onnx, [text]) for text in texts])
    assert np.abs(alone - embed(onnx, texts)).max() < 1e-5


def test_vectors_have_unit_length(onnx: OnnxEngine, texts: list[str]) -> None:
    lengths = np.linalg.norm(embed(onnx, texts), axis=1)
    assert np.abs(lengths - 1).max() < 1e-5


def test_text_past_256_tokens_is_cut(onnx: OnnxEngine) -> None:
    text = "word " * 300
    (result,) = onnx.run(onnx.prepare([text]))
    (same,) = onnx.run(onnx.prepare([text + "and an end that nobody reads"]))
    assert result.tokens == 256
    assert np.array_equal(result.vector, same.vector)


def test_the_graph_holds_no_weights() -> None:
    graph = (files("fleet_aiml.embedding") / "graph/minilm.onnx").read_bytes()
    assert len(graph) < 40_000
    initializers = onnx_format.load_model_from_string(graph).graph.initializer
    places = {
        entry.value
        for tensor in initializers
        for entry in tensor.external_data
        if entry.key == "location"
    }
    assert places == {"model.safetensors"}
    assert ALL_MINILM_L6_V2.dimension == 384
