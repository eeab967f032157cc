from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey

from fleet_common.auth.internal import ISSUER, InternalSigner, InternalVerifier, generate_keypair
from fleet_common.testing import principal

CALLER = principal("sales", tenant="acme")


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def pair() -> tuple[bytes, bytes]:
    return generate_keypair()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def signer(pair: tuple[bytes, bytes], clock: Clock) -> InternalSigner:
    return InternalSigner(pair[0], now=clock)


@pytest.fixture
def verifier(pair: tuple[bytes, bytes], clock: Clock) -> InternalVerifier:
    return InternalVerifier(pair[1], audience="data", now=clock)


def claims(clock: Clock, **changes: Any) -> dict[str, Any]:
    now = int(clock())
    sound = {
        "iss": ISSUER, "aud": "data", "sub": "key:1", "tenant": "acme", "roles": ["viewer"],
        "scope": "data:read", "iat": now, "nbf": now, "exp": now + 60,
    }  # fmt: skip
    return {k: v for k, v in {**sound, **changes}.items() if v is not None}


def test_a_minted_token_proves_the_caller(
    signer: InternalSigner, verifier: InternalVerifier, clock: Clock
) -> None:
    verified = verifier.verify(signer.mint(CALLER, audience="data"))
    assert verified is not None
    who, expires = verified
    assert (who.subject, who.tenant, who.roles, who.scopes, who.kind) == (
        CALLER.subject, "acme", CALLER.roles, CALLER.scopes, "internal",
    )  # fmt: skip
    assert expires == int(clock()) + 60


@pytest.mark.parametrize("bound", [None, frozenset[str](), frozenset({"data:read", "aiml:read"})])
def test_the_bound_of_the_callers_own_credential_travels_along(
    signer: InternalSigner, verifier: InternalVerifier, bound: frozenset[str] | None
) -> None:
    bounded = replace(CALLER, scopes=bound)
    verified = verifier.verify(signer.mint(bounded, audience="data"))
    assert verified is not None
    assert verified[0].scopes == bound


def test_a_token_for_one_service_opens_no_other(
    signer: InternalSigner, verifier: InternalVerifier
) -> None:
    assert verifier.verify(signer.mint(CALLER, audience="devops")) is None


def test_a_token_dies_after_a_minute_even_when_it_was_verified_before(
    signer: InternalSigner, verifier: InternalVerifier, clock: Clock
) -> None:
    token = signer.mint(CALLER, audience="data")
    assert verifier.verify(token)
    clock.now += 60
    assert verifier.verify(token) is None


def test_a_token_is_reused_for_half_its_life_and_no_longer(
    signer: InternalSigner, clock: Clock
) -> None:
    first = signer.mint(CALLER, audience="data")
    clock.now += 29
    assert signer.mint(CALLER, audience="data") == first
    clock.now += 1
    assert signer.mint(CALLER, audience="data") != first


def test_tenants_never_share_a_token(signer: InternalSigner) -> None:
    other = principal("sales", tenant="other")
    assert signer.mint(CALLER, audience="data") != signer.mint(other, audience="data")


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "somebody"}, {"aud": ["data"]}, {"exp": None}, {"nbf": None}, {"iat": None},
        {"exp": "9999999999"}, {"sub": None}, {"tenant": None}, {"scope": ["data:read"]}, {"roles": "admin"},
    ],
    ids=str,
)  # fmt: skip
def test_a_signed_token_with_a_wrong_claim_is_refused(
    pair: tuple[bytes, bytes], verifier: InternalVerifier, clock: Clock, changes: dict[str, Any]
) -> None:
    token = jwt.encode({"alg": "ES256"}, claims(clock, **changes), ECKey.import_key(pair[0]))
    assert verifier.verify(token) is None


@pytest.mark.parametrize("shift", [{"exp": 3600}, {"nbf": 30}, {"exp": -1}], ids=str)
def test_a_token_outside_its_minute_is_refused(
    pair: tuple[bytes, bytes], verifier: InternalVerifier, clock: Clock, shift: dict[str, int]
) -> None:
    moved = {name: int(clock()) + seconds for name, seconds in shift.items()}
    token = jwt.encode({"alg": "ES256"}, claims(clock, **moved), ECKey.import_key(pair[0]))
    assert verifier.verify(token) is None


def test_another_key_or_algorithm_is_refused(
    pair: tuple[bytes, bytes], verifier: InternalVerifier, clock: Clock
) -> None:
    stranger, _ = generate_keypair()
    forged = jwt.encode({"alg": "ES256"}, claims(clock), ECKey.import_key(stranger))
    confused = jwt.encode(  # the public key used as an HMAC secret
        {"alg": "HS256"}, claims(clock), OctKey.import_key(pair[1].strip(b"-\n ") * 2)
    )
    assert verifier.verify(forged) is None
    assert verifier.verify(confused) is None


@pytest.mark.parametrize("text", ["", "a.b.c", "x" * 5000, "eyJhbGciOiJub25lIn0.e30."])
def test_garbage_is_refused(verifier: InternalVerifier, text: str) -> None:
    assert verifier.verify(text) is None


def test_both_caches_are_bounded(
    pair: tuple[bytes, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fleet_common.auth.internal._CACHED_TOKENS", 2)
    signer = InternalSigner(pair[0], now=time.time)
    verifier = InternalVerifier(pair[1], audience="data", now=time.time)
    for number in range(4):
        caller = principal("viewer", subject=f"key:{number}")
        assert verifier.verify(signer.mint(caller, audience="data"))
    assert len(signer._minted) == 2
    assert len(verifier._verified) == 2
