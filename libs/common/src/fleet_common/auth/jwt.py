"""Signed access tokens: from the text of a JWT to its claims, or a refusal.

The header is the caller's word, so it only ever chooses among what we already trust: keys that the issuer
published and algorithms that both the key's type and the settings allow (RFC 8725 §3).
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Any

from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jws import JWSRegistry

from fleet_common.auth.claims import TokenRefused
from fleet_common.auth.issuer import IssuerKeys

_MAX_CHARS = 16_384
_MAX_HEADER_CHARS = 680  # 512 bytes, what joserfc reads
# RFC 9068 §2.1, and the "JWT" of issuers that know no other. Never "logout+jwt" and its like.
_TYPES = {"at+jwt", "application/at+jwt", "jwt"}


def looks_like_jwt(token: str) -> bool:
    """Return whether `token` has the three parts of a signed JWT."""
    return token.count(".") == 2


@lru_cache(maxsize=256)
def header_of(segment: str) -> dict[str, Any]:
    """Return the header that the first part of a JWT holds; empty when it holds none.

    Nobody has vouched for it yet. An issuer signs with few headers, so they are remembered.
    """
    if len(segment) > _MAX_HEADER_CHARS:
        return {}
    try:
        header = json.loads(urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))
    except (ValueError, RecursionError):
        return {}
    return header if isinstance(header, dict) else {}


class JwtReader:
    """Reads the tokens of one issuer."""

    def __init__(self, keys: IssuerKeys, algorithms: Collection[str]) -> None:
        self._keys = keys
        self._algorithms = frozenset(algorithms)
        # Header members that we do not know are ignored (RFC 7515 §4).
        self._registry = JWSRegistry(algorithms=list(algorithms), strict_check_header=False)

    async def claims(self, token: str) -> dict[str, Any]:
        """Return the claims of a token whose signature is good; their content is not judged here.

        Raises:
            TokenRefused: it is no JWT, not one for access, or not signed by the issuer.
            Unavailable: its key is unknown and the issuer cannot be asked.
        """
        if len(token) > _MAX_CHARS or not token.isascii():
            raise TokenRefused("not a token")
        header = header_of(token.partition(".")[0])
        kind, algorithm, key_id = (_word(header, name) for name in ("typ", "alg", "kid"))
        if kind.lower() not in _TYPES:
            raise TokenRefused("not an access token by its type")
        if "crit" in header:
            raise TokenRefused("asks for an extension")  # RFC 7515 §4.1.11: we know none
        if not key_id or algorithm not in self._algorithms:
            raise TokenRefused("no key id, or an algorithm that is not accepted")
        key = await self._keys.find(key_id)
        if key is None or algorithm not in key.algorithms:
            raise TokenRefused("no such key for this algorithm")
        try:
            signed = jws.deserialize_compact(token, key.key, registry=self._registry)
            claims = json.loads(signed.payload or b"")
        except (JoseError, ValueError, RecursionError):
            raise TokenRefused("damaged, or signed by somebody else") from None
        if not isinstance(claims, dict):
            raise TokenRefused("its content is not an object")
        return claims


def _word(header: Mapping[str, Any], name: str) -> str:
    value = header.get(name)
    return value if isinstance(value, str) else ""
