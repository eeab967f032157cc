"""Damaged and invented tokens, against the reader itself: refused, never a crash, never taken for good."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet_common.auth.claims import TokenRefused
from fleet_common.auth.issuer import ALGORITHMS, IssuerKeys
from fleet_common.auth.jwt import JwtReader, header_of
from fleet_common.http import open_client
from fleet_common.testing.issuer import Issuer, issuer_server, unsigned_token

fuzzed = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))


@dataclass
class Pair:
    issuer: Issuer
    reader: JwtReader


@pytest.fixture
async def pair() -> AsyncGenerator[Pair]:
    async with issuer_server() as issuer, open_client(name="issuer") as client:
        keys = IssuerKeys(client, issuer.url, between_looks_s=0)
        yield Pair(issuer, JwtReader(keys, ALGORITHMS))


async def test_the_claims_are_what_was_signed(pair: Pair) -> None:
    assert (await pair.reader.claims(pair.issuer.token(aud="x", color="blue")))["color"] == "blue"


@fuzzed
@given(at=st.floats(0, 1), put=st.text(st.characters(max_codepoint=255), max_size=6),
       drop=st.integers(0, 4))  # fmt: skip
async def test_damage_is_refused(pair: Pair, at: float, put: str, drop: int) -> None:
    token = pair.issuer.token(aud="x")
    place = int(at * len(token))
    damaged = token[:place] + put + token[place + drop :]
    if damaged == token:
        return
    try:
        claims = await pair.reader.claims(damaged)
    except TokenRefused:
        return
    # Base64 has spellings that mean the same bytes: what was signed is then unchanged.
    assert claims["aud"] == "x"
    assert damaged.rpartition(".")[0] == token.rpartition(".")[0]


@fuzzed
@given(
    header=st.dictionaries(
        st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk", "x5c"]),
        st.recursive(
            st.none() | st.text(max_size=5) | st.integers() | st.sampled_from(["ES256", "at+jwt"]),
            lambda inner: st.lists(inner, max_size=2),
        ),
    )
)
async def test_no_invented_header_is_believed(pair: Pair, header: dict[str, Any]) -> None:
    facts = {"alg": "ES256", "typ": "at+jwt", "kid": pair.issuer.signing} | header
    with pytest.raises(TokenRefused):
        await pair.reader.claims(unsigned_token(facts, pair.issuer.claims()) + "AAAA")


@fuzzed
@given(text=st.text(max_size=60) | st.text("eyJ0.-_", max_size=60))
async def test_text_is_no_token(pair: Pair, text: str) -> None:
    with pytest.raises(TokenRefused):
        await pair.reader.claims(text)


@pytest.mark.parametrize(
    "segment", ["", "!", "bnVsbA", "W10", "WyJhbGciXQ", "ImFsZyI", "e", "A" * 700]
)
def test_what_is_no_header_says_nothing(segment: str) -> None:
    assert header_of(segment) == {}
