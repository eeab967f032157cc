from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_devops.text import clip, visible


@pytest.mark.parametrize(
    "hidden",
    [
        "\u202e", "\u2066", "\u200b", "\ufeff", "\u00ad", "\u2060", "\U000e0041", "\U000e01ef",
        "\ufe00", "\x1b", "\x00", "\u3164",
    ],
)  # fmt: skip
def test_characters_that_nobody_sees_are_removed(hidden: str) -> None:
    assert visible(f"a{hidden}b") == "ab"


@pytest.mark.parametrize(
    "text",
    [
        "plain text",
        "tab\tand\r\nlines",
        "it's <b>not</b> escaped &amp;",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # Persian needs its non-joiner
        "\U0001f468\u200d\U0001f469\u200d\U0001f467",  # a family
        "\u2764\ufe0f\u200d\U0001f525",  # a heart on fire
        "naïve café, 日本語",
    ],
)
def test_what_a_reader_sees_stays_as_it_was(text: str) -> None:
    assert visible(text) == text


def test_a_run_of_joiners_carries_no_message() -> None:
    assert visible("é\u200d\u200c\u200d\u200d\ufe0fx") == "é\u200dx"
    assert visible("a\u200d\u200cb") == "ab"


@given(st.text())
def test_cleaning_twice_changes_nothing_more(text: str) -> None:
    once = visible(text)
    assert visible(once) == once


def test_a_long_text_is_cut_and_says_so() -> None:
    assert clip("abcdef", 4) == "abcd… [cut: 2 more characters]"
    assert clip("abcd", 4) == "abcd"
