"""What a person reads before deciding."""

from __future__ import annotations

import unicodedata
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_common.approvals import Approver, Ask, Plan
from fleet_common.approvals.models import one_line
from fleet_common.errors import PermissionDenied
from fleet_common.policy import BUILT_IN
from fleet_common.testing import principal


def test_a_value_cannot_look_like_another_line() -> None:
    plan = Plan("Delete\na contact", {"Name": "Eve\r\nTool: harmless\u2028Price: 0"})
    assert plan.lines() == ["Delete a contact", "Name: Eve Tool: harmless Price: 0"]


@pytest.mark.parametrize("hidden", ["\u202e", "\u200b", "\x1b[2J", "\x00", "\ud800"])
def test_characters_that_hide_or_reorder_are_gone(hidden: str) -> None:
    assert hidden[0] not in one_line(f"a{hidden}b")


@given(st.text())
def test_whatever_a_record_says_is_one_line_of_visible_characters(text: str) -> None:
    line = one_line(text)
    assert line == line.strip()
    assert not [c for c in line if unicodedata.category(c)[0] in "CZ" and c != " "]


def test_long_texts_and_lists_are_cut() -> None:
    assert len(one_line("x" * 10_000)) == 301
    assert len(Plan("s", {str(i): "x" for i in range(1000)}).lines()) == 21


def test_the_message_ends_with_who_asks_and_with_what() -> None:
    ask = Ask.of(principal("sales"), "note_delete", {"id": 1}, Plan("Delete note 1"))
    assert ask.message() == "Delete note 1\nAsked for by key:test0001 with note_delete."


def test_only_a_role_that_may_approve_makes_an_approver() -> None:
    boss = principal("approver", tenant="acme", subject="key:boss")
    assert Approver.of(boss, BUILT_IN) == Approver("acme", "key:boss")
    for role in ("admin", "sales", "nobody"):
        with pytest.raises(PermissionDenied, match="fleet:approve"):
            Approver.of(principal(role), BUILT_IN)


def test_a_token_that_was_not_given_the_scope_does_not_approve() -> None:
    narrowed = replace(principal("approver"), scopes=frozenset({"data:read"}))
    with pytest.raises(PermissionDenied):
        Approver.of(narrowed, BUILT_IN)
