"""What makes a passage the same as before."""

from __future__ import annotations

from dataclasses import replace

from fleet_aiml.rag.chunking import Chunk
from fleet_aiml.rag.identity import content_hash, document_hash, identify
from fleet_aiml.rag.models import BM25, Chunking, CollectionSpec, Document

DOCUMENT = Document(id="guide", text="not used here")
CHUNK = Chunk("some text", 0, 9, 1, 1, "Title")
SPEC = CollectionSpec("words", "1", 64, "1", BM25)


def ids(*chunks: Chunk, tenant: str = "demo", collection: str = "docs") -> list[str]:
    return [p.id for p in identify(tenant, collection, DOCUMENT, chunks, "hash")]


def test_a_passage_that_moved_keeps_its_id() -> None:
    moved = replace(CHUNK, start=100, end=109, first_line=7, last_line=7)
    assert ids(CHUNK) == ids(moved)


def test_other_text_or_heading_is_another_passage() -> None:
    assert (
        len({*ids(CHUNK), *ids(replace(CHUNK, text="x")), *ids(replace(CHUNK, heading="x"))}) == 3
    )


def test_repeated_passages_of_a_document_are_told_apart() -> None:
    first, second = ids(CHUNK, CHUNK)
    assert first != second
    assert ids(CHUNK) == [first]


def test_tenant_and_collection_are_part_of_the_id() -> None:
    assert len({*ids(CHUNK), *ids(CHUNK, tenant="other"), *ids(CHUNK, collection="other")}) == 3


def test_a_documents_hash_covers_text_settings_and_model() -> None:
    same = document_hash(DOCUMENT, Chunking(), SPEC)
    assert same == document_hash(DOCUMENT, Chunking(), SPEC)
    assert same != document_hash(DOCUMENT, Chunking(overlap=0), SPEC)
    assert same != document_hash(DOCUMENT, Chunking(), replace(SPEC, revision="2"))
    assert same != document_hash(DOCUMENT.model_copy(update={"title": "x"}), Chunking(), SPEC)


def test_equal_documents_have_an_equal_content_hash() -> None:
    assert content_hash([DOCUMENT]) == content_hash([DOCUMENT.model_copy()])
    assert content_hash([DOCUMENT]) != content_hash([DOCUMENT, DOCUMENT])
