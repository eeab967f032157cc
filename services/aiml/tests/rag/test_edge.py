"""What only the embedded store does: it owns a folder and keeps it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet_aiml.rag.edge import EdgeQdrant
from fleet_aiml.rag.models import BM25, CollectionSpec, Point, Question, Sparse, Where
from fleet_common.settings import SettingsError

SPEC = CollectionSpec("words", "1", 2, "1", BM25)
POINT = Point(
    "6f1c2b52-6a0e-5c3e-9d57-0f5b1a9a7c11",
    [1.0, 0.0],
    Sparse([1], [1.0]),
    {"tenant": "demo", "doc_id": "a", "metadata": {"kept": True}},
)


async def test_points_are_there_after_a_restart(tmp_path: Path) -> None:
    async with EdgeQdrant(tmp_path) as store:
        await store.ensure_collection("docs", SPEC)
        await store.upsert("docs", [POINT])
    async with EdgeQdrant(tmp_path) as store:
        question = Question([1.0, 0.0], None, limit=1)
        (hit,) = await store.query_hybrid("docs", Where("demo"), question)
        ((point,), _) = await store.scroll("docs", Where("demo"), limit=1)
    assert hit.id == POINT.id
    assert point == POINT


async def test_points_survive_a_process_that_never_closed(tmp_path: Path) -> None:
    crashed = EdgeQdrant(tmp_path / "one")
    await crashed.__aenter__()
    await crashed.ensure_collection("docs", SPEC)
    await crashed.upsert("docs", [POINT])
    # What a killed process leaves: the files as they are, and no lock.
    (tmp_path / "one").rename(tmp_path / "two")
    crashed._shards.clear()
    await crashed.__aexit__(None, None, None)
    async with EdgeQdrant(tmp_path / "two") as store:
        stats = await store.stats("docs")
    assert stats is not None
    assert stats.points == 1


async def test_a_second_process_is_told_who_may_have_the_folder(tmp_path: Path) -> None:
    async with EdgeQdrant(tmp_path):
        with pytest.raises(SettingsError, match=r"FLEET_AIML_VECTOR_PATH .* one replica only"):
            async with EdgeQdrant(tmp_path):
                pass
    async with EdgeQdrant(tmp_path):
        pass


async def test_a_start_that_was_cut_short_is_done_again(tmp_path: Path) -> None:
    (tmp_path / "docs/shard/segments").mkdir(parents=True)
    (tmp_path / "docs/shard/edge_config.json").write_text("{")
    async with EdgeQdrant(tmp_path) as store:
        assert await store.stats("docs") is None
        await store.ensure_collection("docs", SPEC)
        await store.upsert("docs", [POINT])
        stats = await store.stats("docs")
    assert stats is not None
    assert stats.points == 1
