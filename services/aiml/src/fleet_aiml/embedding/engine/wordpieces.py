"""The model's tokenizer: text to token ids, and text to the places where tokens begin and end."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fleet_aiml.embedding.engine.weights import TOKENIZER_FILE, model_folder, verified

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Span = tuple[int, int]


class WordPieces:
    """Tokenizes with the pinned tokenizer.json, loaded on first use (about 50 ms). Thread-safe."""

    def __init__(self, model_path: Path | None, *, max_tokens: int) -> None:
        self._model_path = model_path
        self._max_tokens = max_tokens
        self._lock = threading.Lock()
        self._loaded: Tokenizer | None = None

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text with [CLS] and [SEP], cut at the model's limit."""
        limit = self._max_tokens
        encodings = self._tokenizer().encode_batch_fast(list(texts))
        return [
            e.ids if len(e.ids) <= limit else [*e.ids[: limit - 1], e.ids[-1]] for e in encodings
        ]

    def spans(self, text: str) -> list[Span]:
        """Return where each token of the whole text begins and ends, in characters."""
        # Any: the stubs of tokenizers leave `offsets` untyped.
        return list(self._tokenizer().encode(text, add_special_tokens=False).offsets)

    def _tokenizer(self) -> Tokenizer:
        with self._lock:
            if self._loaded is None:
                from tokenizers import Tokenizer  # noqa: PLC0415 - not before the first text

                path = verified(model_folder(self._model_path), TOKENIZER_FILE)
                tokenizer = Tokenizer.from_file(str(path))
                # The file asks for 128 tokens and fixed padding; the model was trained with 256,
                # and the batches pad themselves.
                tokenizer.no_truncation()
                tokenizer.no_padding()
                self._loaded = tokenizer
            return self._loaded
