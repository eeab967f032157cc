from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_common.errors import InvalidInput
from fleet_devops.cursors import decode, encode


@given(st.dictionaries(st.text(), st.text()), st.text())
def test_a_cursor_returns_the_position_it_was_made_from(
    position: dict[str, str], question: str
) -> None:
    cursor = encode(position, question)

    assert cursor.startswith("devops.")
    assert decode(cursor, question) == position


def test_no_cursor_is_the_start() -> None:
    assert decode(None, "anything") == {}


def test_a_cursor_answers_one_question_only() -> None:
    with pytest.raises(InvalidInput, match="another question"):
        decode(encode({"page": "2"}, "one"), "two")


@given(st.text())
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        decode(text, "question")
