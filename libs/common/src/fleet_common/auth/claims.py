"""What a token says, checked: who, which tenant, which roles, for which resource, until when.

Nothing is assumed: a token without a subject, a tenant, an audience or an expiry is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_LEEWAY_S = 10  # how far the issuer's clock may be ahead of ours; an expiry gets no leeway
_LATEST = 2**53  # JSON numbers beyond it are no dates
_TENANT = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_RESERVED = "fleet:"  # roles that the fleet gives to its own parts
_NAME = re.compile(r"[\x21-\x7e]{1,255}")


class TokenRefused(Exception):
    """Raised for a token that opens nothing; the text is for the log, not for the caller."""


@dataclass(frozen=True, slots=True)
class VerifiedClaims:
    """What the issuer vouches for.

    Attributes:
        scopes: what the token was granted; its roles may allow less.
        audiences: the resources it is for, exact URLs (RFC 8707).
        issued_at: Unix seconds; 0 when the issuer does not say.
        expires_at: Unix seconds.
    """

    subject: str
    tenant: str
    roles: frozenset[str]
    scopes: frozenset[str]
    audiences: frozenset[str]
    token_id: str | None
    issued_at: int
    expires_at: int


@dataclass(frozen=True, slots=True)
class ClaimRules:
    """Which claims are read and what they must say.

    Attributes:
        issuer: the only accepted `iss`, compared as text.
        tenant_claim: name of the claim with the tenant; dots lead into objects.
        roles_claim: name of the claim with the roles.
    """

    issuer: str
    tenant_claim: str
    roles_claim: str

    def verified(self, claims: Mapping[str, Any], now: float) -> VerifiedClaims:
        """Return the claims of a token whose signature was checked, as types.

        Raises:
            TokenRefused: one is missing, wrong, or from another time.
        """
        if claims.get("iss") != self.issuer:
            raise TokenRefused("another issuer")
        if "cnf" in claims:
            # RFC 9449 §7.2: a token bound to a key is worth nothing without the proof of it.
            raise TokenRefused("bound to a key that we cannot check")
        issued_at = _date(claims, "iat", default=0)
        return VerifiedClaims(
            subject=_text(claims.get("sub"), _NAME, "subject"),
            tenant=_text(_at(claims, self.tenant_claim), _TENANT, "tenant"),
            roles=_roles(_at(claims, self.roles_claim)),
            scopes=_words(claims.get("scope")),
            audiences=_audiences(claims.get("aud")),
            token_id=_text(claims["jti"], _NAME, "token id") if "jti" in claims else None,
            issued_at=issued_at,
            expires_at=_lifetime(claims, issued_at, now),
        )


def _lifetime(claims: Mapping[str, Any], issued_at: int, now: float) -> int:
    """Return the expiry of a token that is valid now.

    RFC 9068 §2.2 requires `exp` and `iat` and does not know `nbf`: a token is valid from when it was issued,
    so `iat` stands in for a missing `nbf`, and one of the two must be there.
    """
    starts = _date(claims, "nbf", default=issued_at)
    if not starts:
        raise TokenRefused("neither nbf nor iat")
    if max(starts, issued_at) > now + _LEEWAY_S:
        raise TokenRefused("not valid yet")
    expires_at = _date(claims, "exp", default=0)
    if now >= expires_at:
        raise TokenRefused("expired" if expires_at else "no expiry")
    return expires_at


def _date(claims: Mapping[str, Any], name: str, *, default: int) -> int:
    value = claims.get(name, default)
    if type(value) not in (int, float) or not 0 <= value < _LATEST:
        raise TokenRefused(f"{name} is no date")
    return int(value)


def _text(value: Any, form: re.Pattern[str], what: str) -> str:
    if not isinstance(value, str) or not form.fullmatch(value):
        raise TokenRefused(f"no usable {what}")
    return value


def _audiences(value: Any) -> frozenset[str]:
    several = value if isinstance(value, list) else [value]
    found = frozenset(one for one in several if isinstance(one, str) and one)
    if not found:
        raise TokenRefused("no audience")
    return found


def _words(value: Any) -> frozenset[str]:
    several = value.split() if isinstance(value, str) else value
    if not isinstance(several, list):
        return frozenset()
    return frozenset(word for word in several if isinstance(word, str))


def _roles(value: Any) -> frozenset[str]:
    return frozenset(role for role in _words(value) if not role.startswith(_RESERVED))


def _at(claims: Mapping[str, Any], name: str) -> Any:
    """Return a claim by its own name, which may contain dots, else by its path."""
    if name in claims:
        return claims[name]
    value: Any = claims
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value
