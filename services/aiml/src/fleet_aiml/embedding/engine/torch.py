"""The engine of the extra `[torch]` and of the GPU image: sentence-transformers on torch.

Tokens come from the same pinned tokenizer as for the other engine, so both see the same input.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from fleet_aiml.embedding.engine import Tokens
from fleet_aiml.embedding.engine.padding import pad
from fleet_aiml.embedding.engine.weights import WEIGHTS_FILE, model_folder, verified
from fleet_aiml.embedding.engine.wordpieces import WordPieces
from fleet_aiml.embedding.models import Embedding
from fleet_aiml.errors import EngineMissing


class TorchEngine:
    """all-MiniLM-L6-v2 through sentence-transformers, on the GPU when torch finds one.

    Raises:
        EngineMissing: sentence-transformers or torch is not installed.
        ModelMissing: the weights are absent or are not the pinned ones.
    """

    def __init__(self, model_path: Path | None, words: WordPieces, *, threads: int) -> None:
        self._words = words
        # Any: both are optional and heavy; neither is there when this package is type-checked.
        self._torch: Any = _import("torch")
        folder = verified(model_folder(model_path), WEIGHTS_FILE).parent
        self._torch.set_num_threads(threads)
        self._model: Any = _import("sentence_transformers").SentenceTransformer(str(folder))
        self._model.eval()

    def prepare(self, items: Sequence[str]) -> Sequence[Tokens]:
        """Return the token ids of each text, cut at 256."""
        return self._words.ids(items)

    def run(self, batch: Sequence[Tokens]) -> Sequence[Embedding]:
        """Return one embedding per input, in order."""
        device = self._model.device
        ids, mask = (self._torch.from_numpy(side).to(device) for side in pad(batch))
        with self._torch.inference_mode():
            output = self._model({"input_ids": ids, "attention_mask": mask})
        vectors = output["sentence_embedding"].float().cpu().numpy().astype(np.float32)
        return [
            Embedding(vector, len(tokens)) for vector, tokens in zip(vectors, batch, strict=True)
        ]


def _import(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        raise EngineMissing(
            f"the torch engine needs {name}", hint="Install fleet-aiml[torch]"
        ) from None
