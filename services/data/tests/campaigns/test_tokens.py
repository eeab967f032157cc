"""Unsubscribe tokens: theirs alone, and nobody else's."""

from __future__ import annotations

from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_common.errors import NotFound
from fleet_data.campaigns.tokens import Recipient, UnsubscribeTokens

SECRET = "a-secret-of-thirty-two-characters"
TOKENS = UnsubscribeTokens(SECRET)


def test_a_token_names_its_recipient_and_stays_short() -> None:
    who = Recipient("demo", uuid4())
    token = TOKENS.sign(who)
    assert TOKENS.read(token) == who
    assert len(token) < 64
    assert token.isascii()
    assert token.replace("-", "").replace("_", "").isalnum()


def test_a_changed_or_foreign_token_is_nobodys() -> None:
    token = TOKENS.sign(Recipient("demo", uuid4()))
    flipped = "B" if token[30] == "A" else "A"
    foreign = UnsubscribeTokens("another-secret-of-32-characters!").sign(Recipient("demo", uuid4()))
    for wrong in (token[:30] + flipped + token[31:], token[:-4], token * 9, foreign, ""):
        with pytest.raises(NotFound):
            TOKENS.read(wrong)


def test_a_link_outlives_the_key_it_was_signed_with() -> None:
    who = Recipient("demo", uuid4())
    token = TOKENS.sign(who)
    after = UnsubscribeTokens("the-next-secret-of-32-characters", SECRET)
    assert after.read(token) == who
    assert after.read(after.sign(who)) == who
    with pytest.raises(NotFound):
        TOKENS.read(after.sign(who))


@given(st.text(max_size=80))
def test_no_text_is_a_token(text: str) -> None:
    with pytest.raises(NotFound):
        TOKENS.read(text)
