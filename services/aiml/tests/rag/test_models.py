"""What callers may send."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from fleet_aiml.rag.models import BM25, Chunking, CollectionSpec, Document, Range


def test_a_document_is_known_by_its_id_then_uri_then_text() -> None:
    assert Document(id="a", uri="b", text="c").key == "a"
    assert Document(uri="b", text="c").key == "b"
    assert Document(text="c").key == Document(text="c").key != Document(text="d").key


@pytest.mark.parametrize(
    "wrong",
    [
        {"text": "  \n"},
        {"text": "x", "metadata": {"no spaces": 1}},
        {"text": "x", "metadata": {"n": float("nan")}},
        {"text": "x", "metadata": {"long": "x" * 9000}},
        {"text": "x", "colour": "red"},
    ],
)
def test_a_document_that_cannot_be_indexed_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Document.model_validate(wrong)


def test_an_overlap_of_more_than_half_is_refused() -> None:
    with pytest.raises(ValidationError, match="at most half"):
        Chunking(max_tokens=40, overlap=21)


def test_a_range_needs_a_bound() -> None:
    with pytest.raises(ValidationError, match="gte, lte or both"):
        Range()


def test_a_spec_names_each_difference() -> None:
    spec = CollectionSpec("words", "1", 64, "1", BM25)
    other = spec.to_dict() | {"model": "letters", "dimension": 32}
    assert spec.differences(spec.to_dict()) == []
    assert spec.differences(other) == [
        "model is 'letters' there and 'words' here",
        "dimension is 32 there and 64 here",
    ]
