"""The signed claim that tells PostgreSQL who is asking; `authz.claim()` of the migrations checks it.

`SET app.claims` alone would be forgeable by anybody who gets a statement through, so the claim is
HMAC-SHA256 over the backend's pid, the key's id, the expiry, the tenant, the subject and the masks, if any. Another
tenant cannot be named without the key, and a claim does not work on another connection or later than its expiry.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from dataclasses import dataclass

from fleet_common.errors import InvalidInput

_BLOCK = hashlib.sha256().block_size
_LIFETIME_S = 300  # generous for clocks that differ; a claim lives in one transaction anyway
_TENANT = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


@dataclass(frozen=True, slots=True)
class Caller:
    """On whose behalf a statement runs.

    Attributes:
        tenant: slug such as `demo`; row security lets through only rows of it.
        subject: who, such as `key:ab12cd34`; recorded beside every change.
        masks: fields this caller may not see, as `email` or `contact.email`.
    """

    tenant: str
    subject: str
    masks: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        """Refuse what could not be a tenant.

        Raises:
            InvalidInput: the tenant is not a slug.
        """
        if not _TENANT.fullmatch(self.tenant):
            raise InvalidInput("the tenant of this credential is not a slug such as `demo`")


@dataclass(frozen=True, slots=True)
class PaddedKey:
    """The two halves of an HMAC key as the database stores them (RFC 2104, section 2)."""

    kid: str
    inner: bytes
    outer: bytes


class ClaimSigner:
    """Signs claims with one key."""

    def __init__(self, key: str) -> None:
        self._key = key.encode()
        self._kid = hashlib.sha256(b"kid" + self._key).hexdigest()[:8]

    def sign(self, caller: Caller, *, backend_pid: int) -> str:
        """Return the claim for one transaction on one connection; only `[A-Za-z0-9_.-]`, so safe in SQL."""
        expires_at = int(time.time()) + _LIFETIME_S
        facts = f"{self._kid}.{expires_at}.{caller.tenant}.{caller.subject.encode().hex()}"
        if caller.masks:
            facts += f".{','.join(sorted(caller.masks)).encode().hex()}"
        told = f"{backend_pid}.{facts}".encode()
        return f"{facts}.{hmac.new(self._key, told, hashlib.sha256).hexdigest()}"

    def padded_key(self) -> PaddedKey:
        """Return what `migrate` stores, so that the database can check a claim without a loop."""
        key = self._key if len(self._key) <= _BLOCK else hashlib.sha256(self._key).digest()
        block = key.ljust(_BLOCK, b"\0")
        return PaddedKey(self._kid, bytes(b ^ 0x36 for b in block), bytes(b ^ 0x5C for b in block))
