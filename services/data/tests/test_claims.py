from __future__ import annotations

import hashlib
import hmac

import pytest

from fleet_common.errors import InvalidInput
from fleet_data.claims import Caller, ClaimSigner

KEY = "k" * 40


@pytest.mark.parametrize("tenant", ["", "Demo", "a b", "a'b", "a.b", "-a", "x" * 64])
def test_tenant_that_is_no_slug_is_refused(tenant: str) -> None:
    with pytest.raises(InvalidInput, match="slug"):
        Caller(tenant, "key:1")


def test_claim_is_safe_inside_a_quoted_literal() -> None:
    claim = ClaimSigner(KEY).sign(Caller("demo", "o'auth|'; DROP"), backend_pid=1)
    assert set(claim) <= set("abcdefghijklmnopqrstuvwxyz0123456789._-")


def test_claim_belongs_to_one_connection() -> None:
    signer, caller = ClaimSigner(KEY), Caller("demo", "key:1")
    assert signer.sign(caller, backend_pid=1) != signer.sign(caller, backend_pid=2)


@pytest.mark.parametrize("key", ["k" * 32, "k" * 64, "k" * 100])
def test_padded_key_gives_the_hmac_of_the_standard(key: str) -> None:
    padded = ClaimSigner(key).padded_key()
    inner = hashlib.sha256(padded.inner + b"told").digest()
    assert hashlib.sha256(padded.outer + inner).digest() == hmac.digest(
        key.encode(), b"told", "sha256"
    )
