"""Cuts a text into passages that fit the embedding model and can be cited by line.

Three strategies share one core. A strategy only says where the text may be cut (`fixed`: anywhere between
tokens, `sentence`: between sentences, `markdown`: between blocks, never across a heading); `_pack` then
fills passages up to the limit and repeats up to `overlap` tokens of the last one in the next.
Offsets are characters of the original text, so a passage is always exactly `text[start:end]`.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from fleet_aiml.rag.models import Chunking

VERSION = "1"
"""Part of every chunk's identity; a change that moves boundaries changes it."""

Span = tuple[int, int]
TokenSpans = Callable[[str], Sequence[Span]]

_SPECIAL_TOKENS = 2  # [CLS] and [SEP] count against the model's limit
_LEAST_ROOM = 32  # tokens a passage keeps under a very long heading
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]?[A-Z0-9])|\n{2,}")
_FENCE = re.compile(r"^ {0,3}(```+|~~~+)")
_HEADING = re.compile(r"^(#{1,6})\s+(.+?)\s*#*\s*$")


@dataclass(frozen=True, slots=True)
class Chunk:
    """One passage.

    Attributes:
        text: exactly `source[start:end]`.
        start: first character.
        end: one past the last character.
        first_line: line of the first character, from 1.
        last_line: line of the last character.
        heading: headings above it, outermost first, joined by " > "; the title when there are none.
    """

    text: str
    start: int
    end: int
    first_line: int
    last_line: int
    heading: str = ""


@dataclass(frozen=True, slots=True)
class _Section:
    """A run of units that passages may combine."""

    heading: str
    units: list[Span]


def chunk(text: str, how: Chunking, tokens: TokenSpans, *, title: str = "") -> list[Chunk]:
    """Return the passages of `text`, in order; together they hold every word of it.

    The heading (the title where there is none) is embedded with a passage, so it counts against its limit.
    """
    measure = _Measure(tokens(text))
    lines = _line_starts(text)
    chunks: list[Chunk] = []
    for section in _STRATEGIES[how.strategy](text):
        heading = section.heading or title
        room = how.max_tokens - _SPECIAL_TOKENS
        room = max(room - len(tokens(heading)), min(_LEAST_ROOM, room))
        for span in _pack(section.units, measure, room, how.overlap):
            start, end = _trimmed(text, span)
            if start < end:
                chunks.append(_chunk(text, start, end, lines, heading))
    return chunks


class _Measure:
    """Counts the tokens between two characters."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self.starts = [start for start, _ in spans]
        self.ends = [end for _, end in spans]

    def count(self, span: Span) -> int:
        return bisect_left(self.starts, span[1]) - bisect_left(self.starts, span[0])

    def pieces(self, span: Span, size: int) -> Iterator[Span]:
        """Cut a span that is too long between tokens."""
        first, last = bisect_left(self.starts, span[0]), bisect_left(self.starts, span[1])
        for index in range(first, last, size):
            start = span[0] if index == first else self.starts[index]
            end = span[1] if index + size >= last else self.starts[index + size]
            yield (start, end)


def _pack(units: Sequence[Span], measure: _Measure, room: int, overlap: int) -> Iterator[Span]:
    """Yield spans of whole units with at most `room` tokens each, overlapping by whole units."""
    step = max(1, min(room, overlap) // 2) if overlap else room
    small = [
        piece
        for unit in units
        for piece in ([unit] if measure.count(unit) <= room else measure.pieces(unit, step))
    ]
    first = 0
    while first < len(small):
        last = first + 1
        while last < len(small) and measure.count((small[first][0], small[last][1])) <= room:
            last += 1
        yield (small[first][0], small[last - 1][1])
        if last == len(small):
            return
        first = _step_back(small, measure, first, last, overlap)


def _step_back(
    units: Sequence[Span], measure: _Measure, first: int, last: int, overlap: int
) -> int:
    """Return where the next passage begins: after `first`, and at most `overlap` tokens before `last`."""
    begin = last
    while begin - 1 > first and measure.count((units[begin - 1][0], units[last - 1][1])) <= overlap:
        begin -= 1
    return begin


def _fixed(text: str) -> list[_Section]:
    return [_Section("", [(0, len(text))])]


def _sentences(text: str) -> list[_Section]:
    return [_Section("", _sentence_spans(text, 0, len(text)))]


def _sentence_spans(text: str, start: int, end: int) -> list[Span]:
    cuts = [match.end() for match in _SENTENCE_END.finditer(text, start, end)]
    return [(a, b) for a, b in zip([start, *cuts], [*cuts, end], strict=True) if a < b]


def _markdown(text: str) -> list[_Section]:
    """Split at headings, then into blocks (paragraphs, fenced code) and those into sentences."""
    sections = [_Section("", [])]
    path: list[str] = []
    for start, end, heading in _blocks(text):
        if not text[start:end].strip():
            continue
        if heading is not None:
            level, title = heading
            path = [*path[: level - 1], *[""] * (level - 1 - len(path)), title]
            sections.append(_Section(" > ".join(part for part in path if part), []))
        is_code = _FENCE.match(text[start:end]) is not None
        units = [(start, end)] if is_code or heading else _sentence_spans(text, start, end)
        sections[-1].units.extend(units)
    return [
        section
        for section, following in zip(sections, [*sections[1:], None], strict=True)
        if section.units and not _is_only_a_heading(section, following)
    ]


def _is_only_a_heading(section: _Section, following: _Section | None) -> bool:
    """Whether nothing stands between a heading and the deeper one after it, which repeats it in its path."""
    is_deeper = following is not None and following.heading.startswith(f"{section.heading} > ")
    return len(section.units) == 1 and bool(section.heading) and is_deeper


def _blocks(text: str) -> Iterator[tuple[int, int, tuple[int, str] | None]]:
    """Yield (start, end, heading) of each block; blank lines end one unless a fence is open."""
    begin, position, fence = 0, 0, ""
    for line in text.splitlines(keepends=True):
        end = position + len(line)
        mark = _FENCE.match(line)
        heading = None if fence or mark else _HEADING.match(line)
        if fence:
            is_closing = mark is not None and mark[1].startswith(fence)
            if is_closing:
                yield (begin, end, None)
                begin, fence = end, ""
        elif heading or mark:
            if begin < position:
                yield (begin, position, None)
            begin, fence = position, mark[1] if mark else ""
            if heading:
                yield (position, end, (len(heading[1]), heading[2]))
                begin = end
        elif not line.strip():
            yield (begin, end, None)
            begin = end
        position = end
    if begin < len(text):
        yield (begin, len(text), None)


def _trimmed(text: str, span: Span) -> Span:
    inner = text[span[0] : span[1]]
    start = span[0] + len(inner) - len(inner.lstrip())
    return start, start + len(inner.strip())


def _chunk(text: str, start: int, end: int, lines: Sequence[int], heading: str) -> Chunk:
    first, last = bisect_left(lines, start + 1), bisect_left(lines, end)
    return Chunk(text[start:end], start, end, first, last, heading)


def _line_starts(text: str) -> list[int]:
    return [0, *(match.end() for match in re.finditer("\n", text))]


_STRATEGIES: dict[str, Callable[[str], list[_Section]]] = {
    "fixed": _fixed,
    "sentence": _sentences,
    "markdown": _markdown,
}
