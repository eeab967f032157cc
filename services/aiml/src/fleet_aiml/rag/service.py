"""`Rag`: put documents in, find passages again. The tenant comes from the verified caller, always."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol
from weakref import WeakValueDictionary

import anyio.to_thread

from fleet_aiml.embedding.service import Embedder
from fleet_aiml.errors import BadFilter, CollectionMismatch
from fleet_aiml.rag.chunking import VERSION, Chunk, TokenSpans, chunk
from fleet_aiml.rag.identity import Passage, content_hash, document_hash, identify
from fleet_aiml.rag.models import (
    BM25,
    FIELD_NAME,
    MAX_BYTES,
    Bm25Params,
    Chunking,
    CollectionSpec,
    Document,
    Filters,
    FilterValue,
    Hit,
    Ingested,
    Mode,
    OnConflict,
    Point,
    Question,
    Sparse,
    Where,
)
from fleet_aiml.rag.progress import Progress, Report, nobody_asks
from fleet_aiml.rag.store import VectorStore
from fleet_common.errors import InvalidInput, PayloadTooLarge

_SLICE = 64  # passages embedded and written at a time: bounds memory and the model's queue
_PAGE = 256
_OWN_FIELDS = {"doc_id", "uri", "title"}


class TermWeights(Protocol):
    """Gives texts their BM25 form."""

    def document(self, text: str) -> Sparse:
        """Return the term weights of a passage."""
        ...

    def query(self, text: str) -> Sparse:
        """Return the terms of a question."""
        ...


@dataclass(frozen=True, slots=True)
class Found:
    """The answer to a search; times in milliseconds."""

    hits: list[Hit]
    exists: bool
    timings_ms: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Written:
    chunks: int
    embedded: int
    removed: int


class Rag:
    """Retrieval over one vector store with one embedding model.

    Args:
        store: where points live.
        embedder: text to dense vectors.
        terms: text to BM25 weights, made with `bm25`.
        tokens: where the model's tokens begin and end; called in a worker thread.
        bm25: parameters that new collections are made with.
    """

    def __init__(
        self,
        store: VectorStore,
        embedder: Embedder,
        terms: TermWeights,
        tokens: TokenSpans,
        bm25: Bm25Params = BM25,
    ) -> None:
        self._store = store
        self._embedder = embedder
        self._terms = terms
        self._tokens = tokens
        self._locks: WeakValueDictionary[tuple[str, Where], asyncio.Lock] = WeakValueDictionary()
        info = embedder.info
        self.spec = CollectionSpec(info.name, info.revision, info.dimension, VERSION, bm25)

    @property
    def model_rev(self) -> str:
        """Embedding model and start of its sha256."""
        return self._embedder.info.short_revision

    async def ingest(
        self,
        tenant: str,
        collection: str,
        documents: Sequence[Document],
        *,
        chunking: Chunking,
        on_conflict: OnConflict = "replace",
        report: Report = nobody_asks,
    ) -> Ingested:
        """Index documents and return what changed.

        Doing it again changes nothing; after a failure half-way, doing it again does the rest. Passages
        that did not change are not embedded again; passages that are gone are removed.

        Raises:
            PayloadTooLarge: the texts are over 2 MB together.
            InvalidInput: two documents have the same id.
            CollectionMismatch: the collection was made with another model.
        """
        _check(documents)
        await self._store.ensure_collection(collection, self.spec)
        written = []
        progress = Progress(documents, report)
        for number, document in enumerate(documents, 1):
            place = Where(tenant, document=document.key)
            # Two ingests of one document at once would each remove the other's passages as stale.
            async with self._document_lock(collection, place):
                step = partial(progress.step, number)
                change = await self._replace(
                    collection, place, document, chunking, on_conflict=on_conflict, step=step
                )
            if change is not None:
                written.append(change)
        return Ingested(
            collection=collection,
            documents=len(documents),
            written=len(written),
            skipped_unchanged=len(documents) - len(written),
            chunks=sum(each.chunks for each in written),
            embedded=sum(each.embedded for each in written),
            removed=sum(each.removed for each in written),
            content_hash=content_hash(documents),
            model_rev=self.model_rev,
        )

    async def search(
        self,
        tenant: str,
        collection: str,
        query: str,
        *,
        mode: Mode = "hybrid",
        top_k: int = 8,
        filters: Filters | None = None,
        min_score: float | None = None,
    ) -> Found:
        """Return the passages of `tenant` that answer `query`, best first.

        Raises:
            BadFilter: a filter names an impossible field.
            CollectionMismatch: the collection was made with another model.
        """
        where = Where(tenant, fields=_fields(filters or {}))
        started = time.perf_counter()
        stats = await self._store.stats(collection)
        if stats is None:
            return Found([], exists=False)
        if differences := self.spec.differences(stats.spec):
            raise CollectionMismatch(collection, differences)
        dense = None if mode == "sparse" else await self._question_vector(query)
        embedded = time.perf_counter()
        sparse = None if mode == "dense" else self._terms.query(query)
        if sparse is not None and not sparse.indices:
            sparse = None  # stop words only
        question = Question(dense, sparse, top_k, min_score)
        hits = (
            await self._store.query_hybrid(collection, where, question) if dense or sparse else []
        )
        ended = time.perf_counter()
        return Found(hits, exists=True, timings_ms=_timings(started, embedded, ended))

    async def _question_vector(self, query: str) -> list[float]:
        vectors, _ = await self._embedder.embed([query], kind="query")
        return list(map(float, vectors[0]))

    async def _known(self, collection: str, where: Where) -> dict[str, Point]:
        """Return all points of one document, by id."""
        known: dict[str, Point] = {}
        after: str | None = None
        while True:
            page, after = await self._store.scroll(collection, where, limit=_PAGE, after=after)
            known.update((point.id, point) for point in page)
            if after is None:
                return known

    def _document_lock(self, collection: str, place: Where) -> asyncio.Lock:
        return self._locks.setdefault((collection, place), asyncio.Lock())

    async def _replace(
        self,
        collection: str,
        place: Where,
        document: Document,
        chunking: Chunking,
        *,
        on_conflict: OnConflict,
        step: Callable[[int, int], Awaitable[None]],
    ) -> _Written | None:
        """Write a document's passages, then remove the ones it no longer has: it is never missing.

        Returns None when there is nothing to do.
        """
        known = await self._known(collection, place)
        digest = document_hash(document, chunking, self.spec)
        if not _must_write(known, digest, on_conflict):
            return None
        chunks = await anyio.to_thread.run_sync(self._cut, document, chunking)
        passages = identify(place.tenant, collection, document, chunks, digest)
        for begin in range(0, len(passages), _SLICE):
            part = passages[begin : begin + _SLICE]
            await self._store.upsert(collection, await self._points(part, known))
            await step(begin + len(part), len(passages))
        kept = frozenset(passage.id for passage in passages)
        if stale := known.keys() - kept:
            await self._store.delete_by_filter(collection, replace(place, except_ids=kept))
        return _Written(len(passages), len(kept - known.keys()), len(stale))

    def _cut(self, document: Document, chunking: Chunking) -> list[Chunk]:
        return chunk(document.text, chunking, self._tokens, title=document.title or "")

    async def _points(self, passages: Sequence[Passage], known: Mapping[str, Point]) -> list[Point]:
        """Return the points of passages; only those that are not `known` are embedded."""
        fresh = [passage for passage in passages if passage.id not in known]
        vectors, _ = await self._embedder.embed(
            [passage.embedded_text for passage in fresh], kind="passage", lane="ingest"
        )
        dense = {p.id: v.tolist() for p, v in zip(fresh, vectors, strict=True)}
        return [
            Point(
                passage.id,
                dense[passage.id] if passage.id in dense else known[passage.id].dense,
                self._terms.document(passage.embedded_text),
                passage.payload,
            )
            for passage in passages
        ]


def _check(documents: Sequence[Document]) -> None:
    size_bytes = sum(len(document.text.encode()) for document in documents)
    if size_bytes > MAX_BYTES:
        raise PayloadTooLarge(
            f"the texts have {size_bytes} bytes together, the limit is {MAX_BYTES}",
            hint="Send fewer documents in one call",
        )
    keys = [document.key for document in documents]
    if len(set(keys)) < len(keys):
        raise InvalidInput("two documents have the same id, uri or text")


def _must_write(known: Mapping[str, Point], digest: str, on_conflict: OnConflict) -> bool:
    """Whether a document has to be written; a write that was cut short counts as changed."""
    if not known:
        return True
    payloads = [point.payload for point in known.values()]
    is_whole = all(p["doc_hash"] == digest and p["chunks"] == len(known) for p in payloads)
    return on_conflict == "replace" and not is_whole


def _fields(filters: Filters) -> tuple[tuple[str, FilterValue], ...]:
    for name in filters:
        if not FIELD_NAME.fullmatch(name):
            raise BadFilter(f"{name!r} cannot be the name of a metadata field")
    return tuple(
        (name if name in _OWN_FIELDS else f"metadata.{name}", value)
        for name, value in filters.items()
    )


def _timings(started: float, embedded: float, ended: float) -> dict[str, float]:
    spans = {"embed": embedded - started, "search": ended - embedded, "total": ended - started}
    return {name: round(seconds * 1000, 1) for name, seconds in spans.items()}
