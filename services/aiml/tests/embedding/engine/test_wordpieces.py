"""Text to tokens."""

from __future__ import annotations

from fleet_aiml.embedding.engine.wordpieces import WordPieces


def test_ids_are_framed_and_cut_with_the_end_kept(words: WordPieces) -> None:
    short, long = words.ids(["hello world", "word " * 300])
    assert short == [101, 7592, 2088, 102]
    assert (len(long), long[0], long[-1]) == (256, 101, 102)


def test_spans_cover_the_whole_text_however_long(words: WordPieces) -> None:
    text = "word " * 1000
    spans = words.spans(text)
    assert len(spans) == 1000
    assert text[slice(*spans[-1])] == "word"
