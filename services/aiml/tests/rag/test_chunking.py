"""Texts cut into passages that can be cited."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_aiml.rag.chunking import Chunk, chunk
from fleet_aiml.rag.models import Chunking
from fleet_aiml.testing import word_spans

words = st.sampled_from(
    ["alpha", "beta.", "Gamma!", "# Title", "## Part", "```", "- item", "\n", "\n\n", "x" * 30]
)
texts = st.lists(words, min_size=1, max_size=150).map(" ".join) | st.lists(words).map("\n".join)
settings = st.builds(
    Chunking,
    strategy=st.sampled_from(("markdown", "sentence", "fixed")),
    max_tokens=st.integers(16, 60),
    overlap=st.integers(0, 8),
)


@given(texts, settings)
def test_every_word_is_in_a_passage(text: str, how: Chunking) -> None:
    covered = {n for c in chunk(text, how, word_spans) for n in range(c.start, c.end)}
    missed = "".join(letter for n, letter in enumerate(text) if n not in covered)
    headings = {line.strip("# ") for line in text.splitlines() if line.startswith("#")}
    assert all(line.strip("# ") in headings for line in missed.split("\n") if line.strip())


@given(texts, settings)
def test_a_passage_is_exactly_what_it_cites(text: str, how: Chunking) -> None:
    for passage in chunk(text, how, word_spans):
        assert passage.text == text[passage.start : passage.end] == passage.text.strip()
        assert passage.first_line == text.count("\n", 0, passage.start) + 1
        assert passage.last_line == text.count("\n", 0, passage.end) + 1


@given(texts, settings)
def test_no_passage_is_longer_than_the_model_reads(text: str, how: Chunking) -> None:
    for passage in chunk(text, how, word_spans):
        used = len(word_spans(passage.text)) + 2
        assert used <= how.max_tokens or len(word_spans(passage.heading)) > 0


@given(texts, settings)
def test_cutting_twice_gives_the_same(text: str, how: Chunking) -> None:
    assert chunk(text, how, word_spans) == chunk(text, how, word_spans)


def markdown(text: str, **how: int) -> list[Chunk]:
    return chunk(text, Chunking(strategy="markdown", **how), word_spans)


def test_markdown_passages_know_their_headings_and_lines() -> None:
    text = "# Guide\n\nIntro here.\n\n## Install\n\nRun make.\n\n## Use\n\nCall it.\n"
    found = [(c.heading, c.first_line, c.last_line) for c in markdown(text)]
    assert found == [("Guide", 1, 3), ("Guide > Install", 5, 7), ("Guide > Use", 9, 11)]


def test_a_heading_with_only_deeper_ones_below_is_no_passage() -> None:
    found = markdown("# Guide\n\n## Install\n\nRun make.\n")
    assert [c.heading for c in found] == ["Guide > Install"]


def test_a_hash_in_a_fence_is_no_heading() -> None:
    found = markdown("# Real\n\n```sh\n# a comment\nmake\n```\n\nAfter.\n")
    assert [c.heading for c in found] == ["Real"]


def test_text_without_headings_is_under_its_title() -> None:
    (found,) = chunk("Just words.", Chunking(), word_spans, title="Notes")
    assert found.heading == "Notes"


def test_neighbours_share_at_most_the_overlap() -> None:
    text = " ".join(f"w{n}" for n in range(100))
    found = chunk(text, Chunking(strategy="fixed", max_tokens=22, overlap=6), word_spans)
    shared = [a.end > b.start for a, b in pairwise(found)]
    assert all(shared)
    for a, b in pairwise(found):
        assert len(text[b.start : a.end].split()) <= 6


def test_sentences_stay_whole_when_they_fit() -> None:
    text = "One two three four five. Six seven eight nine ten. " * 4
    found = chunk(text, Chunking(strategy="sentence", max_tokens=16, overlap=0), word_spans)
    assert all(passage.text.endswith(".") for passage in found)


@pytest.mark.parametrize("strategy", ["markdown", "sentence", "fixed"])
def test_a_blank_text_has_no_passages(strategy: str) -> None:
    assert chunk(" \n\n ", Chunking.model_validate({"strategy": strategy}), word_spans) == []
