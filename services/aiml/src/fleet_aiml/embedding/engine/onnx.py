"""The default engine: a weightless graph, the pinned weights, ONNX Runtime on the CPU.

ONNX Runtime reads external weights only from the model's own folder. The graph is therefore loaded from
bytes, and the folder of the weights is named in the session's options; the 90 MB are mapped, not copied.
docs/decisions/0003-embedding-engine.md has the measurements.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from fleet_aiml.embedding.engine import Tokens
from fleet_aiml.embedding.engine.padding import pad
from fleet_aiml.embedding.engine.weights import WEIGHTS_FILE, model_folder, verified
from fleet_aiml.embedding.engine.wordpieces import WordPieces
from fleet_aiml.embedding.models import Embedding

# Read when it is imported: without this it tells its maker about sessions and models. It ships no type information.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime  # type: ignore[import-untyped]

GRAPH = "graph/minilm.onnx"


class OnnxEngine:
    """all-MiniLM-L6-v2 in fp32, with mean pooling and unit length computed inside the graph.

    Raises:
        ModelMissing: the weights are absent or are not the pinned ones.
    """

    def __init__(self, model_path: Path | None, words: WordPieces, *, threads: int) -> None:
        self._words = words
        folder = verified(model_folder(model_path), WEIGHTS_FILE).parent
        graph = (files("fleet_aiml.embedding") / GRAPH).read_bytes()
        self._session = onnxruntime.InferenceSession(
            graph, _options(folder, threads), providers=["CPUExecutionProvider"]
        )

    def prepare(self, items: Sequence[str]) -> Sequence[Tokens]:
        """Return the token ids of each text, cut at 256."""
        return self._words.ids(items)

    def run(self, batch: Sequence[Tokens]) -> Sequence[Embedding]:
        """Return one embedding per input, in order."""
        ids, mask = pad(batch)
        (vectors,) = self._session.run(["embeddings"], {"input_ids": ids, "attention_mask": mask})
        return [
            Embedding(vector, len(tokens)) for vector, tokens in zip(vectors, batch, strict=True)
        ]


def _options(folder: Path, threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Spinning threads on a shared host cost two thirds of the throughput per CPU second, and they burn
    # a whole core between two calls.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", str(folder)
    )
    return options
