"""What an embedding model is and what embedding returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["query", "passage"]
Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """Identity of a model: two vectors compare only when their models are equal here.

    Attributes:
        name: the model as its authors call it.
        revision: sha256 of the weights.
        dimension: length of a vector.
        max_tokens: longest input, special tokens included; what is past it is cut.
        query_prefix: put before a question, for models that were trained so.
        passage_prefix: put before a passage.
    """

    name: str
    revision: str
    dimension: int
    max_tokens: int
    query_prefix: str = ""
    passage_prefix: str = ""

    def prefix(self, kind: Kind) -> str:
        """Return what this model wants to see before a text of this kind."""
        return self.query_prefix if kind == "query" else self.passage_prefix

    @property
    def short_revision(self) -> str:
        """The name and the start of the revision, as results show them."""
        return f"{self.name}@{self.revision[:12]}"


@dataclass(frozen=True, slots=True)
class Embedding:
    """One text's vector and how many tokens the model read."""

    vector: Vectors
    tokens: int


ALL_MINILM_L6_V2 = ModelInfo(
    name="all-MiniLM-L6-v2",
    revision="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    dimension=384,
    max_tokens=256,
)
"""Trained on inputs of up to 256 tokens (model card, "Intended uses"); needs no prefixes."""
