"""What every vector store does the same way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import uuid5

import pytest

from fleet_aiml.errors import CollectionMismatch
from fleet_aiml.rag.bm25 import Bm25
from fleet_aiml.rag.identity import NAMESPACE
from fleet_aiml.rag.models import (
    BM25,
    CollectionSpec,
    FilterValue,
    Point,
    Question,
    Range,
    Sparse,
    Where,
)
from fleet_aiml.rag.store import VectorStore

pytestmark = pytest.mark.filterwarnings("ignore:Payload indexes have no effect:UserWarning")

SPEC = CollectionSpec("words", "1", 4, "1", BM25)
TEXTS = {
    "fox": ("the quick brown fox jumps", [1.0, 0.1, 0.0, 0.0]),
    "dog": ("lazy dogs sleep all day", [0.9, 0.5, 0.0, 0.0]),
    "password": ("rotate the database password", [0.0, 0.0, 1.0, 0.2]),
    "backup": ("back up the database at night", [0.0, 0.1, 0.8, 0.6]),
}


@pytest.fixture(scope="module")
def bm25() -> Bm25:
    return Bm25(BM25)


def point(bm25: Bm25, name: str, tenant: str = "demo", **metadata: Any) -> Point:
    text, dense = TEXTS[name]
    payload = {"tenant": tenant, "doc_id": name, "text": text, "metadata": metadata}
    identity = str(uuid5(NAMESPACE, f"{tenant}/{name}"))
    return Point(identity, dense, bm25.document(text), payload)


@pytest.fixture
async def filled(store: VectorStore, bm25: Bm25) -> VectorStore:
    await store.ensure_collection("docs", SPEC)
    facts: dict[str, dict[str, Any]] = {
        "fox": {"team": "zoo", "year": 2020, "wild": True},
        "dog": {"team": "zoo", "year": 2021, "weight": 7.5},
        "password": {"team": "ops", "year": 2022, "tags": ["db", "security"]},
        "backup": {"team": "ops", "year": 2023, "tags": ["db"]},
    }
    await store.upsert("docs", [point(bm25, name, **facts[name]) for name in TEXTS])
    await store.upsert("docs", [point(bm25, name, "other") for name in TEXTS])
    return store


async def names(
    store: VectorStore, where: Where, dense: list[float] | None = None, sparse: Sparse | None = None
) -> list[str]:
    asked = Question(dense or [0.5, 0.5, 0.5, 0.5], sparse, limit=10)
    return [hit.payload["doc_id"] for hit in await store.query_hybrid("docs", where, asked)]


async def test_nearest_vectors_come_first(filled: VectorStore) -> None:
    found = await names(filled, Where("demo"), [1.0, 0.1, 0.0, 0.0])
    assert found[:2] == ["fox", "dog"]


async def test_words_are_found_by_stem(filled: VectorStore, bm25: Bm25) -> None:
    question = Question(None, bm25.query("a dog and databases"), limit=10)
    hits = await filled.query_hybrid("docs", Where("demo"), question)
    assert {hit.payload["doc_id"] for hit in hits} == {"dog", "password", "backup"}
    assert [hit.sparse_rank for hit in hits] == [1, 2, 3]
    assert [hit.dense_rank for hit in hits] == [None, None, None]


async def test_fusion_scores_are_those_of_rank_60(filled: VectorStore, bm25: Bm25) -> None:
    question = Question([0.0, 0.0, 1.0, 0.2], bm25.query("database night"), limit=10)
    hits = await filled.query_hybrid("docs", Where("demo"), question)
    for hit in hits:
        places = [place for place in (hit.dense_rank, hit.sparse_rank) if place is not None]
        assert hit.score == pytest.approx(sum(1 / (60 + place) for place in places), rel=1e-5)
    assert {hit.payload["doc_id"] for hit in hits[:2]} == {"password", "backup"}


async def test_no_query_reaches_another_tenant(filled: VectorStore, bm25: Bm25) -> None:
    question = Question([1.0, 0.1, 0.0, 0.0], bm25.query("fox dog database"), limit=50)
    hits = await filled.query_hybrid("docs", Where("demo"), question)
    assert {hit.payload["tenant"] for hit in hits} == {"demo"}
    assert await filled.query_hybrid("docs", Where("nobody"), question) == []
    assert await filled.scroll("docs", Where("nobody"), limit=10) == ([], None)


async def test_another_tenants_words_do_not_weigh(store: VectorStore, bm25: Bm25) -> None:
    await store.ensure_collection("docs", SPEC)
    await store.upsert("docs", [point(bm25, name) for name in TEXTS])
    question = Question(None, bm25.query("fox"), limit=1)
    before = await store.query_hybrid("docs", Where("demo"), question)
    await store.upsert("docs", [point(bm25, "fox", f"tenant{n}") for n in range(20)])
    after = await store.query_hybrid("docs", Where("demo"), question)
    assert before[0].score == pytest.approx(after[0].score)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("metadata.team", "ops", {"password", "backup"}),
        ("metadata.team", ["zoo", "none"], {"fox", "dog"}),
        ("metadata.year", 2022, {"password"}),
        ("metadata.year", [2020, 2023], {"fox", "backup"}),
        ("metadata.year", Range(gte=2021, lte=2022), {"dog", "password"}),
        ("metadata.weight", 7.5, {"dog"}),
        ("metadata.wild", True, {"fox"}),
        ("metadata.wild", False, set[str]()),
        ("metadata.tags", "security", {"password"}),
        ("doc_id", "dog", {"dog"}),
        ("metadata.nothing", "x", set[str]()),
    ],
)
async def test_filters_narrow_the_hits(
    filled: VectorStore, field: str, value: FilterValue, expected: set[str]
) -> None:
    assert set(await names(filled, Where("demo", fields=((field, value),)))) == expected


async def test_hits_below_the_score_are_left_out(filled: VectorStore) -> None:
    question = Question([1.0, 0.1, 0.0, 0.0], None, limit=10, min_score=0.8)
    hits = await filled.query_hybrid("docs", Where("demo"), question)
    assert [hit.payload["doc_id"] for hit in hits] == ["fox", "dog"]
    assert all(hit.score >= 0.8 for hit in hits)


async def test_upsert_replaces_a_point(filled: VectorStore, bm25: Bm25) -> None:
    await filled.upsert("docs", [point(bm25, "fox", team="moved")])
    found = await names(filled, Where("demo", fields=(("metadata.team", "moved"),)))
    assert found == ["fox"]
    assert len(await names(filled, Where("demo"))) == 4


async def test_upsert_of_nothing_is_fine(filled: VectorStore) -> None:
    await filled.upsert("docs", [])
    assert len(await names(filled, Where("demo"))) == 4


async def test_delete_takes_one_tenants_document(filled: VectorStore) -> None:
    await filled.delete_by_filter("docs", Where("demo", document="fox"))
    assert "fox" not in await names(filled, Where("demo"))
    assert "fox" in await names(filled, Where("other"))


async def test_delete_spares_the_points_it_is_told_to(filled: VectorStore, bm25: Bm25) -> None:
    kept = frozenset({point(bm25, "dog").id})
    await filled.delete_by_filter("docs", Where("demo", except_ids=kept))
    assert await names(filled, Where("demo")) == ["dog"]


async def test_scroll_gives_every_point_once_with_its_vectors(
    filled: VectorStore, bm25: Bm25
) -> None:
    first, after = await filled.scroll("docs", Where("demo"), limit=3)
    assert after is not None
    rest, end = await filled.scroll("docs", Where("demo"), limit=3, after=after)
    assert end is None
    found = {p.payload["doc_id"]: p for p in [*first, *rest]}
    assert found.keys() == TEXTS.keys()
    assert found["fox"].sparse.values == pytest.approx(point(bm25, "fox").sparse.values)
    assert found["fox"].dense[0] / found["fox"].dense[1] == pytest.approx(10, rel=1e-4)


# Local mode raises an error of its own where a server answers 404.
@pytest.mark.parametrize("opening", ["edge", "http", "server"], indirect=True)
async def test_a_collection_that_does_not_exist_is_empty(store: VectorStore) -> None:
    question = Question([1.0, 0.0, 0.0, 0.0], None, limit=3)
    assert await store.stats("nothing") is None
    assert await store.query_hybrid("nothing", Where("demo"), question) == []
    assert await store.scroll("nothing", Where("demo"), limit=3) == ([], None)
    await store.delete_by_filter("nothing", Where("demo"))


async def test_stats_tell_how_many_points_and_what_made_them(filled: VectorStore) -> None:
    stats = await filled.stats("docs")
    assert stats is not None
    assert stats.points == 8
    assert stats.spec == SPEC.to_dict()


async def test_a_collection_of_another_model_is_refused(filled: VectorStore) -> None:
    await filled.ensure_collection("docs", SPEC)
    with pytest.raises(CollectionMismatch, match=r"^conflict: collection 'docs' .*revision is '1'"):
        await filled.ensure_collection("docs", replace(SPEC, revision="2"))
