"""Internal tokens: what the gateway sends a service instead of the caller's own credential.

An ES256 JWT for one audience, valid for 60 s. The gateway alone holds the private key, so a service can
neither mint a token for a sibling nor use one that it received anywhere else.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from fleet_common.auth.jwt import header_of
from fleet_common.auth.principal import Principal

ISSUER = "fleet-gateway"
LIFETIME_S = 60
_ALGORITHM = "ES256"
# RFC 8725 §3.11: a type of its own, so that no other JWT can be taken for one of these, nor the other way round.
_TYPE = "fleet+jwt"
_LEEWAY_S = 5
_CACHED_TOKENS = 4096


def generate_keypair() -> tuple[bytes, bytes]:
    """Return (private PEM, public PEM) of a new P-256 key."""
    private = ec.generate_private_key(ec.SECP256R1())
    return (
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
    )


class InternalSigner:
    """Mints tokens for one service at a time and reuses each for half of its life."""

    def __init__(self, private_pem: bytes, *, now: Callable[[], float] = time.time) -> None:
        self._key = ECKey.import_key(private_pem)
        self._now = now
        self._minted: OrderedDict[tuple[Principal, str], tuple[float, str]] = OrderedDict()

    def mint(self, principal: Principal, *, audience: str) -> str:
        """Return a token that proves `principal` to the service named `audience`.

        Every call within 30 s returns the same token: signing costs more than the rest of a gateway hop.
        """
        now = self._now()
        slot = (principal, audience)
        issued = self._minted.get(slot)
        if issued is not None and now - issued[0] < LIFETIME_S / 2:
            return issued[1]
        token = jwt.encode(
            {"alg": _ALGORITHM, "typ": _TYPE}, self._claims(principal, audience, now), self._key
        )
        self._minted[slot] = (now, token)
        self._minted.move_to_end(slot)
        while len(self._minted) > _CACHED_TOKENS:
            self._minted.popitem(last=False)
        return token

    @staticmethod
    def _claims(principal: Principal, audience: str, now: float) -> dict[str, Any]:
        bound = {} if principal.scopes is None else {"scope": " ".join(sorted(principal.scopes))}
        return {
            "iss": ISSUER,
            "aud": audience,
            "sub": principal.subject,
            "tenant": principal.tenant,
            "roles": sorted(principal.roles),
            **bound,
            "iat": int(now),
            "nbf": int(now),
            "exp": int(now) + LIFETIME_S,
            "jti": secrets.token_hex(8),
        }


def is_internal(token: str) -> bool:
    """Return whether `token` says that it is an internal one."""
    return header_of(token.partition(".")[0]).get("typ") == _TYPE


class InternalVerifier:
    """Verifies internal tokens for one audience; each verified token is remembered until it expires."""

    def __init__(
        self, public_pem: bytes, *, audience: str, now: Callable[[], float] = time.time
    ) -> None:
        self._key = ECKey.import_key(public_pem)
        self._audience = audience
        self._now = now
        self._verified: OrderedDict[bytes, tuple[float, Principal]] = OrderedDict()

    def verify(self, token: str) -> tuple[Principal, int] | None:
        """Return the principal and the expiry (Unix seconds) of a valid token, else None."""
        digest = hashlib.sha256(token.encode()).digest()
        known = self._verified.get(digest)
        if known is not None and self._now() < known[0]:
            return known[1], int(known[0])
        claims = self._claims(token)
        if claims is None:
            return None
        principal = Principal(
            subject=claims["sub"],
            tenant=claims["tenant"],
            roles=frozenset(claims["roles"]),
            scopes=frozenset(claims["scope"].split()) if "scope" in claims else None,
            kind="internal",
        )
        self._verified[digest] = (float(claims["exp"]), principal)
        while len(self._verified) > _CACHED_TOKENS:
            self._verified.popitem(last=False)
        return principal, claims["exp"]

    def _claims(self, token: str) -> dict[str, Any] | None:
        try:
            decoded = jwt.decode(token, self._key, algorithms=[_ALGORITHM])
        except (JoseError, ValueError):
            return None
        claims = decoded.claims
        if decoded.header.get("typ") != _TYPE:
            return None
        now = self._now()
        if not all(isinstance(claims.get(name), int) for name in ("exp", "nbf", "iat")):
            return None
        texts = ("sub", "tenant", *(["scope"] if "scope" in claims else []))
        if not all(isinstance(claims.get(name), str) for name in texts):
            return None
        timely = claims["nbf"] - _LEEWAY_S <= now < claims["exp"] <= now + LIFETIME_S + _LEEWAY_S
        meant_for_us = claims.get("iss") == ISSUER and claims.get("aud") == self._audience
        return claims if timely and meant_for_us and isinstance(claims.get("roles"), list) else None
