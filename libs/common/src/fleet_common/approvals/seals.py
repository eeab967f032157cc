"""Seals: proof that this fleet asked this question a moment ago, usable once.

A seal is `expiry.nonce.mac`: HMAC-SHA256 over purpose, expiry, nonce and the binding of the ask, so it works for
one caller, tool, set of arguments and version of the object, and for one purpose. A nonce that was used is
remembered until its seal has expired: in Redis where there are replicas, else in the one process there is.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from typing import Literal, Protocol

from fleet_common.approvals.models import LIFETIME, Ask
from fleet_common.errors import ApprovalInvalid, Unavailable
from fleet_common.redis import REDIS_AWAY, Redis

Purpose = Literal["answer", "two_step"]
_LIFE_S = int(LIFETIME.total_seconds())


class SpentNonces(Protocol):
    """Remembers which seals were used."""

    async def spend(self, nonce: str) -> bool:
        """Return True for the first use of `nonce` and False ever after.

        Raises:
            Unavailable: nobody can say now.
        """
        ...


class RedisNonces:
    """Nonces that every replica knows."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def spend(self, nonce: str) -> bool:
        """Return whether this was the first use among all replicas."""
        try:
            # One command: of any number of calls at once exactly one sets the key.
            return bool(
                await self._redis.set(f"fleet:approval:spent:{nonce}", 1, nx=True, ex=2 * _LIFE_S)
            )
        except REDIS_AWAY as exc:
            raise Unavailable("the approval store") from exc


class LocalNonces:
    """Nonces of a process that has no Redis, and whose seals no other process can make or read."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._spent: dict[str, float] = {}

    async def spend(self, nonce: str) -> bool:
        """Return whether this was the first use."""
        now = self._now()
        self._spent = {known: until for known, until in self._spent.items() if until > now}
        if nonce in self._spent:
            return False
        self._spent[nonce] = now + 2 * _LIFE_S
        return True


class Seals:
    """Issues and redeems seals with one key."""

    def __init__(
        self, key: bytes, spent: SpentNonces, *, now: Callable[[], float] = time.time
    ) -> None:
        self._key = hmac.digest(key, b"fleet/approvals/seal/v1", hashlib.sha256)
        self._spent = spent
        self._now = now

    def issue(self, ask: Ask, purpose: Purpose) -> str:
        """Return a seal for `ask` that is good for five minutes and one use; only `[A-Za-z0-9_.-]`."""
        head = f"{int(self._now()) + _LIFE_S}.{secrets.token_urlsafe(16)}"
        return f"{head}.{self._mac(head, ask, purpose)}"

    async def redeem(self, seal: str, ask: Ask, purpose: Purpose) -> None:
        """Use up a seal.

        Raises:
            ApprovalInvalid: it is forged, expired, used, or for another call, caller or version of the object.
            Unavailable: whether it was used cannot be known now.
        """
        head, _, mac = seal.rpartition(".")
        expected = self._mac(head, ask, purpose)
        if not hmac.compare_digest(mac.encode("utf-8", "replace"), expected.encode()):
            raise ApprovalInvalid("it was given for another call, or the object changed meanwhile")
        expires, _, nonce = head.partition(".")
        if self._now() >= int(expires):
            raise ApprovalInvalid("it has expired")
        if not await self._spent.spend(nonce):
            raise ApprovalInvalid("it has been used")

    def _mac(self, head: str, ask: Ask, purpose: Purpose) -> str:
        told = f"{purpose}.{head}.{ask.binding}".encode("utf-8", "replace")
        return hmac.new(self._key, told, hashlib.sha256).hexdigest()
