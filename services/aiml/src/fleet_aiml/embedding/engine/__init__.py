"""Engines: what runs a model. All speak `EmbedEngine`; the queue owns one and calls it from one thread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fleet_aiml.embedding.models import Embedding

Tokens = list[int]


class EmbedEngine(Protocol):
    """Turns texts into unit-length vectors. Loaded when made; not thread-safe, because it need not be."""

    def prepare(self, items: Sequence[str]) -> Sequence[Tokens]:
        """Return the token ids of each text, cut at the model's limit."""
        ...

    def run(self, batch: Sequence[Tokens]) -> Sequence[Embedding]:
        """Return one embedding per input, in order; shorter inputs are padded to the longest."""
        ...
