from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_common.errors import InvalidInput
from fleet_devops.github.lines import cut_lines


def test_lines_count_from_one_and_a_final_newline_is_not_a_line() -> None:
    part = cut_lines("a\nb\nc\n", 2, 3, budget=100)

    assert (part.text, part.start, part.end, part.total) == ("b\nc", 2, 3, 3)
    assert not part.truncated


def test_an_empty_file_has_no_lines() -> None:
    part = cut_lines("", 1, None, budget=100)

    assert (part.text, part.end, part.total, part.truncated) == ("", 0, 0, False)


def test_a_range_past_the_end_says_how_long_the_file_is() -> None:
    with pytest.raises(InvalidInput, match="the file has 2 lines"):
        cut_lines("a\nb", 3, None, budget=100)


def test_a_range_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(InvalidInput):
        cut_lines("a\nb\nc", 3, 2, budget=100)


def test_a_line_longer_than_the_budget_is_cut_so_that_reading_goes_on() -> None:
    part = cut_lines("x" * 50 + "\nnext", 1, None, budget=10)

    assert part.text.startswith("x" * 10 + "…")
    assert part.truncated
    assert part.next_start == 2


@given(
    st.lists(st.text(alphabet="ab ", max_size=30), min_size=1, max_size=40),
    st.integers(min_value=32, max_value=200),
)
def test_reading_on_returns_every_line_once(lines: list[str], budget: int) -> None:
    text = "\n".join(lines) + "\n"
    read: list[str] = []
    start: int | None = 1
    while start is not None:
        part = cut_lines(text, start, None, budget=budget)
        assert len(part.text) <= budget
        read += part.text.split("\n")
        start = part.next_start

    assert read == lines
