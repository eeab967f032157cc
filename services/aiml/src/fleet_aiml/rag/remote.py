"""`RemoteQdrant`: a Qdrant server over its REST API, for more than one replica."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from qdrant_client import AsyncQdrantClient, models
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from fleet_aiml.errors import CollectionMismatch, VectorStoreUnavailable
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
from fleet_common.tracing import ClientSpan

_SPEC = "fleet_spec"  # key of the collection's metadata


class RemoteQdrant:
    """A `VectorStore` on a Qdrant server; an async context manager that closes the client.

    Args:
        client: the client to use; it is closed with the store.
        prefix: put before the names of collections, so that several fleets can share a server.
    """

    def __init__(self, client: AsyncQdrantClient, *, prefix: str = "fleet_") -> None:
        self._client = client
        self._prefix = prefix

    async def __aenter__(self) -> Self:
        """Return the store; the first call connects."""
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the client's connections."""
        await self._client.close()

    async def ensure_collection(self, name: str, spec: CollectionSpec) -> None:
        """Create the collection unless it is there; see `VectorStore`."""
        stored = await self.stats(name)
        if stored is None:
            stored = await self._create(name, spec)
        if stored is not None and (differences := spec.differences(stored.spec)):
            raise CollectionMismatch(name, differences)

    async def upsert(self, name: str, points: Sequence[Point]) -> None:
        """Write points; see `VectorStore`."""
        if points:
            structs = [_struct(point) for point in points]
            with _translated("upsert"):
                await self._client.upsert(self._prefix + name, structs, wait=True)

    async def delete_by_filter(self, name: str, where: Where) -> None:
        """Remove points; see `VectorStore`."""
        selector = models.FilterSelector(filter=_filter(where))
        with _translated("delete", missing_is_fine=True):
            await self._client.delete(self._prefix + name, selector, wait=True)

    async def query_hybrid(self, name: str, where: Where, question: Question) -> list[Hit]:
        """Return the best points first; see `VectorStore`."""
        alone = _rankings(question, where)
        requests = [_best(question, where), *alone.values()]
        answers: list[models.QueryResponse] = []
        with _translated("query", missing_is_fine=True):
            answers = await self._client.query_batch_points(self._prefix + name, requests)
        if not answers:
            return []
        places = {
            kind: ranks(str(point.id) for point in answer.points)
            for kind, answer in zip(alone, answers[1:], strict=True)
        }
        return [_hit(point, places) for point in answers[0].points]

    async def scroll(
        self, name: str, where: Where, *, limit: int, after: str | None = None
    ) -> tuple[list[Point], str | None]:
        """Return one page of points; see `VectorStore`."""
        with _translated("scroll", missing_is_fine=True):
            records, following = await self._client.scroll(
                self._prefix + name,
                scroll_filter=_filter(where),
                limit=limit,
                offset=after,
                with_payload=True,
                with_vectors=True,
            )
            return [_point(record) for record in records], str(following) if following else None
        return [], None

    async def stats(self, name: str) -> CollectionStats | None:
        """Return what the collection holds; see `VectorStore`."""
        with _translated("stats", missing_is_fine=True):
            if not await self._client.collection_exists(self._prefix + name):
                return None
            facts = await self._client.get_collection(self._prefix + name)
            metadata = facts.config.metadata or {}
            return CollectionStats(facts.points_count or 0, dict(metadata.get(_SPEC, {})))
        return None

    async def _create(self, name: str, spec: CollectionSpec) -> CollectionStats | None:
        """Create the collection; return what is there when another replica was faster."""
        try:
            with _translated("create_collection"):
                await self._client.create_collection(
                    self._prefix + name,
                    vectors_config={
                        DENSE: models.VectorParams(
                            size=spec.dimension, distance=models.Distance.COSINE
                        )
                    },
                    sparse_vectors_config={
                        SPARSE: models.SparseVectorParams(modifier=models.Modifier.IDF)
                    },
                    metadata={_SPEC: spec.to_dict()},
                )
                for field in INDEXED:
                    await self._client.create_payload_index(
                        self._prefix + name, field, _keyword(is_tenant=field == TENANT)
                    )
        except UnexpectedResponse as exc:
            if exc.status_code != 409:
                raise
            return await self.stats(name)
        return None


def connect(url: str, api_key: str | None, *, timeout_s: int) -> AsyncQdrantClient:
    """Return a client; nothing is sent before the first call."""
    return AsyncQdrantClient(url=url, api_key=api_key, timeout=timeout_s, check_compatibility=False)


@contextmanager
def _translated(operation: str, *, missing_is_fine: bool = False) -> Iterator[None]:
    """Turn the client's failures into ours; with `missing_is_fine` a missing collection ends the block."""
    facts = {"db.system.name": "qdrant", "db.operation.name": operation}
    with ClientSpan(operation, lambda: facts):
        try:
            yield
        except ResponseHandlingException as exc:
            raise VectorStoreUnavailable from exc
        except UnexpectedResponse as exc:
            if (exc.status_code or 500) >= 500:
                raise VectorStoreUnavailable from exc
            if not (exc.status_code == 404 and missing_is_fine):
                raise


def _keyword(*, is_tenant: bool) -> models.KeywordIndexParams:
    return models.KeywordIndexParams(
        type=models.KeywordIndexType.KEYWORD, is_tenant=is_tenant or None
    )


def _struct(point: Point) -> models.PointStruct:
    sparse = models.SparseVector(indices=point.sparse.indices, values=point.sparse.values)
    return models.PointStruct(
        id=point.id, vector={DENSE: point.dense, SPARSE: sparse}, payload=point.payload
    )


def _point(record: models.Record) -> Point:
    # Any: the client's type allows every form of vector here; ours are named.
    vectors: Any = record.vector
    sparse = vectors[SPARSE]
    return Point(
        id=str(record.id),
        dense=list(vectors[DENSE]),
        sparse=Sparse(list(sparse.indices), list(sparse.values)),
        payload=record.payload or {},
    )


def _hit(point: models.ScoredPoint, places: dict[str, dict[str, int]]) -> Hit:
    return Hit(
        id=str(point.id),
        score=point.score,
        payload=point.payload or {},
        dense_rank=places.get(DENSE, {}).get(str(point.id)),
        sparse_rank=places.get(SPARSE, {}).get(str(point.id)),
    )


def _queries(question: Question) -> dict[str, list[float] | models.SparseVector]:
    queries: dict[str, list[float] | models.SparseVector] = {}
    if question.dense is not None:
        queries[DENSE] = question.dense
    if question.sparse is not None:
        queries[SPARSE] = models.SparseVector(
            indices=question.sparse.indices, values=question.sparse.values
        )
    return queries


def _rankings(question: Question, where: Where) -> dict[str, models.QueryRequest]:
    """Return the request for each ranking alone: ids only."""
    limit = max(PREFETCH, question.limit)
    return {
        kind: models.QueryRequest(
            query=query, using=kind, limit=limit, filter=_filter(where), params=_params(kind, where)
        )
        for kind, query in _queries(question).items()
    }


def _best(question: Question, where: Where) -> models.QueryRequest:
    """Return the request for the final ranking, fused when the question has both forms."""
    queries = _queries(question)
    if len(queries) == 1:
        ((kind, query),) = queries.items()
        return models.QueryRequest(
            query=query,
            using=kind,
            limit=question.limit,
            filter=_filter(where),
            params=_params(kind, where),
            with_payload=True,
            score_threshold=question.min_score,
        )
    limit = max(PREFETCH, question.limit)
    branches = [
        models.Prefetch(
            query=query, using=kind, limit=limit, filter=_filter(where), params=_params(kind, where)
        )
        for kind, query in queries.items()
    ]
    return models.QueryRequest(
        prefetch=branches,
        query=models.RrfQuery(rrf=models.Rrf(k=RRF_K)),
        limit=question.limit,
        filter=_filter(where),
        with_payload=True,
        score_threshold=question.min_score,
    )


def _params(kind: str, where: Where) -> models.SearchParams | None:
    # How rare a term is counts within the tenant: nobody's words weigh in another tenant's ranking.
    if kind == DENSE:
        return None
    corpus = models.Filter(must=[_equals(TENANT, where.tenant)])
    return models.SearchParams(idf=models.IdfCorpusParams(corpus=corpus))


def _filter(where: Where) -> models.Filter:
    must = [_equals(TENANT, where.tenant)]
    if where.document is not None:
        must.append(_equals(DOCUMENT, where.document))
    must += [_condition(field, value) for field, value in where.fields]
    others = models.HasIdCondition(has_id=sorted(where.except_ids))
    return models.Filter(must=[*must], must_not=[others] if where.except_ids else None)


def _equals(field: str, value: str | int | bool) -> models.FieldCondition:
    return models.FieldCondition(key=field, match=models.MatchValue(value=value))


def _condition(field: str, value: FilterValue) -> models.FieldCondition:
    if isinstance(value, Range):
        bounds = models.Range(gte=value.gte, lte=value.lte)
        return models.FieldCondition(key=field, range=bounds)
    if isinstance(value, float):
        return models.FieldCondition(key=field, range=models.Range(gte=value, lte=value))
    if isinstance(value, list):
        return models.FieldCondition(key=field, match=models.MatchAny(any=value))
    return _equals(field, value)
