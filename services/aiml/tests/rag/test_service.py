"""Documents in, passages out, one tenant at a time."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from fleet_aiml.embedding.service import Embedder
from fleet_aiml.errors import BadFilter, CollectionMismatch
from fleet_aiml.rag.bm25 import Bm25
from fleet_aiml.rag.models import BM25, Chunking, Document, Ingested
from fleet_aiml.rag.service import Rag
from fleet_aiml.rag.store import VectorStore
from fleet_aiml.testing import POISON, WordEngine, word_ids, word_spans
from fleet_common.errors import InvalidInput, PayloadTooLarge

SMALL = Chunking(strategy="markdown", max_tokens=16, overlap=0)
GUIDE = Document(
    uri="docs/guide.md",
    title="Guide",
    text="# Install\n\nRun make install.\n\n# Rotate\n\nRotate the database password monthly.\n",
    metadata={"team": "ops"},
)


async def ingest(rag: Rag, *documents: Document, tenant: str = "demo") -> Ingested:
    return await rag.ingest(tenant, "docs", documents, chunking=SMALL)


async def texts(rag: Rag, query: str, tenant: str = "demo") -> list[str]:
    found = await rag.search(tenant, "docs", query)
    return [hit.payload["text"] for hit in found.hits]


async def test_a_passage_is_found_with_its_citation(rag: Rag) -> None:
    done = await ingest(rag, GUIDE)
    assert (done.documents, done.written, done.chunks, done.embedded) == (1, 1, 2, 2)
    found = await rag.search("demo", "docs", "database password")
    best = found.hits[0]
    assert best.payload["text"] == "# Rotate\n\nRotate the database password monthly."
    assert (best.payload["uri"], best.payload["first_line"], best.payload["last_line"]) == (
        "docs/guide.md",
        5,
        7,
    )
    assert (best.dense_rank, best.sparse_rank) == (1, 1)
    assert found.timings_ms.keys() == {"embed", "search", "total"}


@pytest.mark.parametrize("mode", ["dense", "sparse", "hybrid"])
async def test_every_mode_finds_it(rag: Rag, mode: str) -> None:
    await ingest(rag, GUIDE)
    found = await rag.search("demo", "docs", "rotate password", mode=mode)  # type: ignore[arg-type]
    assert "Rotate" in found.hits[0].payload["text"]
    assert (found.hits[0].dense_rank is None) == (mode == "sparse")


async def test_ingesting_again_changes_nothing(rag: Rag, engine: WordEngine) -> None:
    first = await ingest(rag, GUIDE)
    passes = len(engine.batches)
    again = await ingest(rag, GUIDE)
    assert (again.written, again.skipped_unchanged, again.embedded) == (0, 1, 0)
    assert again.content_hash == first.content_hash
    assert len(engine.batches) == passes


async def test_only_changed_passages_are_embedded_and_old_ones_go(rag: Rag) -> None:
    await ingest(rag, GUIDE)
    changed = GUIDE.model_copy(update={"text": "Preface.\n\n" + GUIDE.text.replace("make", "sh")})
    done = await ingest(rag, changed)
    assert (done.chunks, done.embedded, done.removed) == (3, 2, 1)
    found = await texts(rag, "install")
    assert "# Install\n\nRun sh install." in found
    assert "# Install\n\nRun make install." not in found


async def test_a_passage_that_moved_is_cited_at_its_new_place(rag: Rag) -> None:
    await ingest(rag, GUIDE)
    await ingest(rag, GUIDE.model_copy(update={"text": "Preface.\n\n" + GUIDE.text}))
    found = await rag.search("demo", "docs", "database password")
    assert found.hits[0].payload["first_line"] == 7


async def test_skip_keeps_what_is_there(rag: Rag) -> None:
    await ingest(rag, GUIDE)
    changed = GUIDE.model_copy(update={"text": "Other words."})
    done = await rag.ingest("demo", "docs", [changed], chunking=SMALL, on_conflict="skip")
    assert (done.written, done.skipped_unchanged) == (0, 1)
    assert await texts(rag, "other words") != ["Other words."]


async def test_an_ingest_that_was_cut_off_is_finished_by_the_next(rag: Rag) -> None:
    broken = Document(id="big", text=f"# One\n\nGood words.\n\n# Two\n\n{POISON}\n")
    with pytest.raises(ValueError, match="choked"):
        await ingest(rag, broken, GUIDE)
    mended = broken.model_copy(update={"text": broken.text.replace(POISON, "cured")})
    done = await ingest(rag, mended, GUIDE)
    assert done.written == 2
    assert (await ingest(rag, mended, GUIDE)).written == 0


async def test_two_ingests_of_one_document_at_once_leave_one_version(rag: Rag) -> None:
    versions = [GUIDE.model_copy(update={"text": f"Version {n} of it."}) for n in range(4)]
    await asyncio.gather(*(ingest(rag, version) for version in versions))
    assert len(await texts(rag, "version")) == 1


async def test_tenants_never_see_each_other(rag: Rag) -> None:
    await ingest(rag, GUIDE, tenant="alpha")
    secret = Document(uri="docs/guide.md", text="The password of beta is in the safe.")
    await ingest(rag, secret, tenant="beta")
    assert all("beta" not in text for text in await texts(rag, "password beta safe", "alpha"))
    assert await texts(rag, "password", "beta") == [secret.text]
    assert await texts(rag, "password", "gamma") == []


async def test_one_tenants_ingest_leaves_the_others_document(rag: Rag) -> None:
    await ingest(rag, GUIDE, tenant="alpha")
    await ingest(rag, GUIDE.model_copy(update={"text": "Short."}), tenant="beta")
    assert len(await texts(rag, "install rotate", "alpha")) == 2


async def test_a_filter_cannot_reach_past_the_tenant(rag: Rag) -> None:
    await ingest(rag, GUIDE, tenant="alpha")
    found = await rag.search("beta", "docs", "password", filters={"tenant": "alpha"})
    assert found.hits == []


async def test_filters_are_over_metadata_and_the_documents_own_fields(rag: Rag) -> None:
    await ingest(rag, GUIDE, Document(id="other", text="Rotate tyres.", metadata={"team": "car"}))
    by_team = await rag.search("demo", "docs", "rotate", filters={"team": "car"})
    by_uri = await rag.search("demo", "docs", "rotate", filters={"uri": "docs/guide.md"})
    assert {hit.payload["doc_id"] for hit in by_team.hits} == {"other"}
    assert {hit.payload["doc_id"] for hit in by_uri.hits} == {"docs/guide.md"}


@pytest.mark.parametrize("name", ["", "a.b", "metadata[]", "x y"])
async def test_a_filter_with_an_impossible_name_is_refused(rag: Rag, name: str) -> None:
    with pytest.raises(BadFilter, match=r"^invalid_input"):
        await rag.search("demo", "docs", "x", filters={name: 1})


async def test_a_collection_nobody_filled_is_empty(rag: Rag, engine: WordEngine) -> None:
    found = await rag.search("demo", "nothing", "anything")
    assert (found.hits, found.exists) == ([], False)
    assert engine.batches == []


async def test_a_question_of_stop_words_has_no_words_to_find(rag: Rag) -> None:
    await ingest(rag, GUIDE)
    assert (await rag.search("demo", "docs", "the of and", mode="sparse")).hits == []
    assert (await rag.search("demo", "docs", "the of and")).hits[0].sparse_rank is None


async def test_another_models_collection_is_refused_for_reading_and_writing(
    rag: Rag, vectors: VectorStore, embedder: Embedder
) -> None:
    await vectors.ensure_collection("docs", replace(rag.spec, revision="another"))
    with pytest.raises(CollectionMismatch, match="revision is 'another'"):
        await rag.search("demo", "docs", "x")
    with pytest.raises(CollectionMismatch, match="Ingest into a new collection"):
        await ingest(rag, GUIDE)
    assert Rag(vectors, embedder, Bm25(BM25), word_spans).model_rev == "words@000000000000"


async def test_texts_over_2_mb_are_refused(rag: Rag) -> None:
    with pytest.raises(PayloadTooLarge, match="Send fewer documents"):
        await ingest(rag, Document(id="big", text="x" * (2 * 1024 * 1024 + 1)))


async def test_two_documents_with_one_id_are_refused(rag: Rag) -> None:
    with pytest.raises(InvalidInput, match="same id"):
        await ingest(rag, GUIDE, GUIDE)


async def test_a_long_document_is_written_in_slices(rag: Rag) -> None:
    long = Document(id="long", text="\n\n".join(f"# H{n}\n\nWord{n} here." for n in range(300)))
    done = await ingest(rag, long)
    assert (done.chunks, done.embedded) == (300, 300)
    assert (await ingest(rag, long)).written == 0
    shorter = long.model_copy(update={"text": "# H7\n\nWord7 here."})
    assert (await ingest(rag, shorter)).removed == 299


async def test_the_heading_is_embedded_with_the_passage(rag: Rag, engine: WordEngine) -> None:
    await ingest(rag, GUIDE)
    embedded = [tokens for batch in engine.batches for tokens in batch]
    assert word_ids("Install\n# Install\n\nRun make install.") in embedded
