"""`EdgeQdrant`: the vector store inside this process, for a laptop, tests and a single replica.

Each collection is one qdrant-edge shard in a folder of its own, beside a `collection.json` with its spec.
The engine is native code that blocks, so calls run in a few threads. A folder belongs to one process:
our own lock is taken first, because a second open damages files of the first before qdrant-edge notices.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import anyio.to_thread
import qdrant_edge as edge

from fleet_aiml.errors import CollectionMismatch
from fleet_aiml.rag.models import (
    CollectionSpec,
    CollectionStats,
    FilterValue,
    Hit,
    Point,
    Question,
    Range,
    Sparse,
    Where,
)
from fleet_aiml.rag.store import DENSE, DOCUMENT, INDEXED, PREFETCH, RRF_K, SPARSE, TENANT, ranks
from fleet_common.settings import SettingsError

T = TypeVar("T")
_THREADS = 4
# qdrant-edge 0.9 reads MatchValue(True) as the integer 1, which no boolean equals: they are kept as words too.
_FLAGS = "_flags"
_SHARD, _SPEC_FILE = "shard", "collection.json"


class EdgeQdrant:
    """A `VectorStore` in a folder; an async context manager that owns the folder while it is open."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._shards: dict[str, edge.EdgeShard] = {}
        self._opening = threading.Lock()
        self._limiter = anyio.CapacityLimiter(_THREADS)
        self._lock_file: int | None = None

    async def __aenter__(self) -> Self:
        """Take the folder.

        Raises:
            SettingsError: another process has it.
        """
        await self._call(self._take_folder)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Write everything out and let the folder go."""
        with anyio.CancelScope(shield=True):
            await self._call(self._release)

    async def ensure_collection(self, name: str, spec: CollectionSpec) -> None:
        """Create the collection unless it is there; see `VectorStore`."""
        await self._call(partial(self._ensure, name, spec))

    async def upsert(self, name: str, points: Sequence[Point]) -> None:
        """Write points and flush; see `VectorStore`."""
        if points:
            operation = edge.UpdateOperation.upsert_points([_native(point) for point in points])
            await self._call(partial(self._update, name, operation))

    async def delete_by_filter(self, name: str, where: Where) -> None:
        """Remove points and flush; see `VectorStore`."""
        operation = edge.UpdateOperation.delete_points_by_filter(_filter(where))
        await self._call(partial(self._update, name, operation))

    async def query_hybrid(self, name: str, where: Where, question: Question) -> list[Hit]:
        """Return the best points first; see `VectorStore`."""
        return await self._call(partial(self._query, name, where, question))

    async def scroll(
        self, name: str, where: Where, *, limit: int, after: str | None = None
    ) -> tuple[list[Point], str | None]:
        """Return one page of points; see `VectorStore`."""
        return await self._call(partial(self._scroll, name, where, limit, after))

    async def stats(self, name: str) -> CollectionStats | None:
        """Return what the collection holds; see `VectorStore`."""
        return await self._call(partial(self._stats, name))

    # Everything below runs in a worker thread.

    async def _call(self, work: Callable[[], T]) -> T:
        return await anyio.to_thread.run_sync(work, limiter=self._limiter)

    def _take_folder(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(self._folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            raise SettingsError(
                f"FLEET_AIML_VECTOR_PATH {self._folder} is in use by another process; embedded storage serves "
                "one replica only: stop the other one, choose another folder, or set FLEET_AIML_QDRANT_URL"
            ) from None
        self._lock_file = file

    def _release(self) -> None:
        for shard in self._shards.values():
            shard.flush()
            shard.close()
        self._shards.clear()
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None

    def _ensure(self, name: str, spec: CollectionSpec) -> None:
        with self._opening:
            stored = self._spec(name)
            if stored is None:
                self._create(name, spec)
            elif differences := spec.differences(stored):
                raise CollectionMismatch(name, differences)

    def _create(self, name: str, spec: CollectionSpec) -> None:
        # The spec is written last: a start that was cut short leaves no spec, and is done again.
        place = self._folder / name
        shutil.rmtree(place, ignore_errors=True)
        (place / _SHARD).mkdir(parents=True)
        shard = edge.EdgeShard.create(str(place / _SHARD), _config(spec))
        for field in INDEXED:
            kind = edge.PayloadSchemaType.Keyword
            shard.update(edge.UpdateOperation.create_field_index(field, kind))
        shard.flush()
        (place / _SPEC_FILE).write_text(json.dumps(spec.to_dict()))
        self._shards[name] = shard

    def _spec(self, name: str) -> dict[str, Any] | None:
        path = self._folder / name / _SPEC_FILE
        return dict(json.loads(path.read_text())) if path.exists() else None

    def _shard(self, name: str) -> edge.EdgeShard | None:
        with self._opening:
            if name not in self._shards and self._spec(name) is not None:
                self._shards[name] = edge.EdgeShard.load(str(self._folder / name / _SHARD))
            return self._shards.get(name)

    def _update(self, name: str, operation: edge.UpdateOperation) -> None:
        shard = self._shard(name)
        if shard is not None:
            shard.update(operation)
            shard.flush()

    def _query(self, name: str, where: Where, question: Question) -> list[Hit]:
        shard = self._shard(name)
        if shard is None:
            return []
        alone = _rankings(question, where)
        requests = [_best(question, where), *alone.values()]
        best, *others = shard.query_batch(edge.QueryBatchRequest(requests))
        places = {
            kind: ranks(str(point.id) for point in found)
            for kind, found in zip(alone, others, strict=True)
        }
        return [
            Hit(
                id=str(point.id),
                score=point.score,
                payload=point.payload or {},
                dense_rank=places.get(DENSE, {}).get(str(point.id)),
                sparse_rank=places.get(SPARSE, {}).get(str(point.id)),
            )
            for point in best
        ]

    def _scroll(
        self, name: str, where: Where, limit: int, after: str | None
    ) -> tuple[list[Point], str | None]:
        shard = self._shard(name)
        if shard is None:
            return [], None
        request = edge.ScrollRequest(
            offset=after, limit=limit, filter=_filter(where), with_payload=True, with_vector=True
        )
        records, following = shard.scroll(request)
        return [_point(record) for record in records], str(following) if following else None

    def _stats(self, name: str) -> CollectionStats | None:
        shard, spec = self._shard(name), self._spec(name)
        if shard is None or spec is None:
            return None
        return CollectionStats(points=shard.count(edge.CountRequest()), spec=spec)


def _config(spec: CollectionSpec) -> edge.EdgeConfig:
    return edge.EdgeConfig(
        vectors={DENSE: edge.EdgeVectorParams(spec.dimension, edge.Distance.Cosine)},
        sparse_vectors={SPARSE: edge.EdgeSparseVectorParams(modifier=edge.Modifier.Idf)},
    )


def _native(point: Point) -> edge.Point:
    sparse = edge.SparseVector(point.sparse.indices, point.sparse.values)
    payload = {**point.payload, _FLAGS: _flags(point.payload)}
    return edge.Point(point.id, {DENSE: point.dense, SPARSE: sparse}, payload)


def _flags(payload: Mapping[str, Any]) -> list[str]:
    """Return the booleans of the metadata as words, in the form that `_condition` asks for."""
    facts = payload.get("metadata", {}).items()
    return [f"metadata.{name}={value}" for name, value in facts if isinstance(value, bool)]


def _point(record: edge.Record) -> Point:
    # Any: the stubs allow every form of vector here; ours are named.
    vectors: Any = record.vector
    sparse = vectors[SPARSE]
    return Point(
        id=str(record.id),
        dense=list(vectors[DENSE]),
        sparse=Sparse(list(sparse.indices), list(sparse.values)),
        payload={k: v for k, v in (record.payload or {}).items() if k != _FLAGS},
    )


def _rankings(question: Question, where: Where) -> dict[str, edge.QueryRequest]:
    """Return the request for each ranking alone: ids only."""
    limit = max(PREFETCH, question.limit)
    return {
        kind: edge.QueryRequest(
            limit=limit, query=query, filter=_filter(where), params=_params(kind, where)
        )
        for kind, query in _queries(question).items()
    }


def _best(question: Question, where: Where) -> edge.QueryRequest:
    """Return the request for the final ranking, fused when the question has both forms."""
    queries = _queries(question)
    fused = len(queries) > 1
    limit = max(PREFETCH, question.limit)
    branches = [
        edge.Prefetch(limit=limit, query=query, filter=_filter(where), params=_params(kind, where))
        for kind, query in queries.items()
    ]
    return edge.QueryRequest(
        limit=question.limit,
        # The stubs do not say that Rrf is a Fusion.
        query=edge.Fusion.Rrf(k=RRF_K) if fused else next(iter(queries.values())),  # type: ignore[arg-type]
        prefetches=branches if fused else None,
        filter=_filter(where),
        params=None if fused else _params(next(iter(queries)), where),
        with_payload=True,
        score_threshold=question.min_score,
    )


def _queries(question: Question) -> dict[str, edge.Query]:
    queries = {}
    if question.dense is not None:
        queries[DENSE] = edge.Query.Nearest(question.dense, using=DENSE)
    if question.sparse is not None:
        sparse = edge.SparseVector(question.sparse.indices, question.sparse.values)
        queries[SPARSE] = edge.Query.Nearest(sparse, using=SPARSE)
    return queries


def _params(kind: str, where: Where) -> edge.SearchParams | None:
    # How rare a term is counts within the tenant: nobody's words weigh in another tenant's ranking.
    if kind == DENSE:
        return None
    corpus = edge.Filter(must=[_equals(TENANT, where.tenant)])
    return edge.SearchParams(idf=edge.IdfParams(corpus=corpus))


def _filter(where: Where) -> edge.Filter:
    must: list[edge.FieldCondition] = [_equals(TENANT, where.tenant)]
    if where.document is not None:
        must.append(_equals(DOCUMENT, where.document))
    must += [_condition(field, value) for field, value in where.fields]
    others = [edge.HasIdCondition(set(where.except_ids))] if where.except_ids else None
    return edge.Filter(must=[*must], must_not=[*others] if others else None)


def _equals(field: str, value: str | int) -> edge.FieldCondition:
    return edge.FieldCondition(field, match=edge.MatchValue(value))


def _condition(field: str, value: FilterValue) -> edge.FieldCondition:
    if isinstance(value, bool):
        return _equals(_FLAGS, f"{field}={value}")
    if isinstance(value, Range):
        return edge.FieldCondition(field, range=edge.RangeFloat(gte=value.gte, lte=value.lte))
    if isinstance(value, float):
        return edge.FieldCondition(field, range=edge.RangeFloat(gte=value, lte=value))
    if isinstance(value, list):
        return edge.FieldCondition(field, match=edge.MatchAny(value))
    return _equals(field, value)
