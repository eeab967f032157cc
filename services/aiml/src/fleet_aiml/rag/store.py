"""The port to a vector store, and what both adapters share: six verbs, one fusion.

Every search asks the store three questions in one round trip: the fused ranking with payloads, and each
ranking alone, which gives a hit its ranks. Fusion is reciprocal rank fusion with k = 61 in Qdrant's
counting (positions from 0), the 60 of the paper; Qdrant's default of 2 scores lower (docs/decisions/0003).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from fleet_aiml.rag.models import (
    CollectionSpec,
    CollectionStats,
    Hit,
    Point,
    Question,
    Where,
)

DENSE, SPARSE = "dense", "bm25"
RRF_K = 61
PREFETCH = 100
"""Candidates of each ranking that are fused, at least."""

TENANT, DOCUMENT = "tenant", "doc_id"
INDEXED = (TENANT, DOCUMENT)


class VectorStore(Protocol):
    """Where points live. A collection is shared by tenants; every verb on points names one."""

    async def ensure_collection(self, name: str, spec: CollectionSpec) -> None:
        """Create the collection unless it is there.

        Raises:
            CollectionMismatch: it is there and was made with another spec.
            VectorStoreUnavailable: the store cannot be reached.
        """
        ...

    async def upsert(self, name: str, points: Sequence[Point]) -> None:
        """Write points; a point with the same id is replaced. Durable when it returns."""
        ...

    async def delete_by_filter(self, name: str, where: Where) -> None:
        """Remove the points that `where` means."""
        ...

    async def query_hybrid(self, name: str, where: Where, question: Question) -> list[Hit]:
        """Return the best points first; none when the collection does not exist."""
        ...

    async def scroll(
        self, name: str, where: Where, *, limit: int, after: str | None = None
    ) -> tuple[list[Point], str | None]:
        """Return (points in order of id, where the next page starts); none when there is no collection."""
        ...

    async def stats(self, name: str) -> CollectionStats | None:
        """Return what the collection holds; None when it does not exist."""
        ...


def ranks(ids: Iterable[str]) -> dict[str, int]:
    """Return the place of each id in a ranking, from 1."""
    return {point: place for place, point in enumerate(ids, start=1)}
