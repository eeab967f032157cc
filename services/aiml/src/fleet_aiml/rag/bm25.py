"""BM25 term weights, computed here; the store adds the IDF of the tenant's own documents at query time."""

from __future__ import annotations

from fleet_aiml.rag.models import Bm25Params, Sparse


class Bm25:
    """English stemming, stop words and term frequencies by qdrant-edge, in the form Qdrant's server uses."""

    def __init__(self, params: Bm25Params) -> None:
        # Imported here: 13 MB of native code that a process without a search never needs.
        from qdrant_edge import Bm25 as Native  # noqa: PLC0415
        from qdrant_edge import Bm25Config  # noqa: PLC0415

        self._native = Native(Bm25Config(k=params.k, b=params.b, avg_len=params.avg_len))

    def document(self, text: str) -> Sparse:
        """Return the term weights of a passage."""
        vector = self._native.embed_document(text)
        return Sparse(list(vector.indices), list(vector.values))

    def query(self, text: str) -> Sparse:
        """Return the terms of a question; empty when it has stop words only."""
        vector = self._native.embed_query(text)
        return Sparse(list(vector.indices), list(vector.values))
