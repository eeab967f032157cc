"""Nouns of retrieval: documents and how to cut them, questions and what answers them."""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

MAX_DOCUMENTS = 64
MAX_BYTES = 2 * 1024 * 1024
MAX_METADATA_BYTES = 8 * 1024

Mode = Literal["hybrid", "dense", "sparse"]
OnConflict = Literal["replace", "skip"]
Scalar = str | int | float | bool
FIELD_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")

CollectionName = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$",
        description="Lower-case letters, digits, - and _; each tenant has its own.",
    ),
]
MetadataKey = Annotated[str, Field(pattern=rf"^{FIELD_NAME.pattern}$")]


class _Strict(BaseModel):
    """Refuses unknown fields, so that a misspelt one is an error and not silence."""

    model_config = ConfigDict(extra="forbid")


class Document(_Strict):
    """One text to index."""

    id: str | None = Field(
        None,
        min_length=1,
        max_length=512,
        description="Your id; else the uri or a hash of the text.",
    )
    uri: str | None = Field(
        None,
        min_length=1,
        max_length=2048,
        description="Such as docs/install.md; citations show it.",
    )
    title: str | None = Field(None, max_length=512, description="Shown in citations.")
    text: str = Field(min_length=1, description="Plain or Markdown.")
    metadata: dict[MetadataKey, Scalar | list[str]] = Field(
        default_factory=dict,
        max_length=32,
        description="Facts to filter by: texts, numbers, booleans, lists of texts.",
    )

    @model_validator(mode="after")
    def _has_words(self) -> Self:
        if not self.text.strip():
            raise ValueError("text is blank")
        return self

    @model_validator(mode="after")
    def _metadata_is_small(self) -> Self:
        if len(json.dumps(self.metadata)) > MAX_METADATA_BYTES:
            raise ValueError(f"metadata is over {MAX_METADATA_BYTES} bytes")
        if any(isinstance(v, float) and not math.isfinite(v) for v in self.metadata.values()):
            raise ValueError("metadata holds a number that is not finite")
        return self

    @property
    def key(self) -> str:
        """Id of the document within its tenant and collection."""
        return (
            self.id or self.uri or f"sha256:{hashlib.sha256(self.text.encode()).hexdigest()[:32]}"
        )


class Chunking(_Strict):
    """How documents are cut into passages."""

    strategy: Literal["markdown", "sentence", "fixed"] = Field(
        "markdown",
        description="markdown keeps headings and blocks, sentence sentences; fixed counts tokens.",
    )
    max_tokens: int = Field(
        256,
        ge=16,
        le=256,
        description="Longest passage.",
    )
    overlap: int = Field(
        32, ge=0, le=128, description="Most tokens repeated from the passage before."
    )

    @model_validator(mode="after")
    def _overlap_leaves_room(self) -> Self:
        if self.overlap > self.max_tokens // 2:
            raise ValueError("overlap must be at most half of max_tokens")
        return self


class Range(_Strict):
    """Bounds of a number, both included."""

    gte: float | None = None
    lte: float | None = None

    @model_validator(mode="after")
    def _has_a_bound(self) -> Self:
        if self.gte is None and self.lte is None:
            raise ValueError("a range needs gte, lte or both")
        return self


FilterValue = Scalar | list[str] | list[int] | Range
Filters = dict[str, FilterValue]


class Ingested(BaseModel):
    """What an ingest changed."""

    collection: str
    documents: int = Field(description="Documents that were given.")
    written: int = Field(description="Documents that were new or had changed.")
    skipped_unchanged: int = Field(
        description="Documents that were already there, unchanged or kept."
    )
    chunks: int = Field(description="Passages of the written documents.")
    embedded: int = Field(
        description="Passages that had to be embedded; the others were unchanged."
    )
    removed: int = Field(description="Old passages of the written documents that were removed.")
    content_hash: str = Field(
        description="sha256 over all documents given; equal input, equal hash."
    )
    model_rev: str = Field(description="Embedding model and start of its sha256.")


@dataclass(frozen=True, slots=True)
class Sparse:
    """A sparse vector: term ids and their weights."""

    indices: list[int]
    values: list[float]


@dataclass(frozen=True, slots=True)
class Bm25Params:
    """BM25 as Robertson and Zaragoza define it; part of what makes a collection.

    `avg_len` is the mean passage in words without stop words. Passages of up to 256 tokens have about 100.
    """

    k: float = 1.2
    b: float = 0.75
    avg_len: float = 100.0


BM25 = Bm25Params()
"""What new collections are made with."""


@dataclass(frozen=True, slots=True)
class CollectionSpec:
    """What every point of a collection was made with; points made otherwise do not compare."""

    model: str
    revision: str
    dimension: int
    chunker: str
    bm25: Bm25Params = BM25

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form that is stored with the collection."""
        bm25 = {"k": self.bm25.k, "b": self.bm25.b, "avg_len": self.bm25.avg_len}
        return {
            "model": self.model,
            "revision": self.revision,
            "dimension": self.dimension,
            "chunker": self.chunker,
            "bm25": bm25,
        }

    def differences(self, stored: dict[str, Any]) -> list[str]:
        """Return one sentence for each fact in which a stored collection differs; empty when it fits."""
        mine = self.to_dict()
        return [
            f"{name} is {stored.get(name)!r} there and {value!r} here"
            for name, value in mine.items()
            if stored.get(name) != value
        ]


@dataclass(frozen=True, slots=True)
class Point:
    """One passage as the store holds it."""

    id: str
    dense: list[float]
    sparse: Sparse
    payload: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Where:
    """Which points are meant. The tenant is not optional: no query is ever without it.

    Attributes:
        tenant: whose points.
        document: only this document's points.
        fields: payload paths and what they must be, all of them.
        except_ids: points that are not meant.
    """

    tenant: str
    document: str | None = None
    fields: tuple[tuple[str, FilterValue], ...] = ()
    except_ids: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Question:
    """A query in both forms; a form that is None is not asked.

    Attributes:
        dense: the embedded question.
        sparse: its terms.
        limit: most hits.
        min_score: lowest score of a hit: cosine for dense alone, BM25 for sparse alone, RRF for both.
    """

    dense: list[float] | None
    sparse: Sparse | None
    limit: int
    min_score: float | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """One passage that answers, with its place (from 1) in each ranking that found it."""

    id: str
    score: float
    payload: dict[str, Any]
    dense_rank: int | None = None
    sparse_rank: int | None = None


@dataclass(frozen=True, slots=True)
class CollectionStats:
    """What a collection holds and what it was made with."""

    points: int
    spec: dict[str, Any]
