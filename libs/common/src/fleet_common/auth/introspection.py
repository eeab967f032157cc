"""Opaque access tokens: the issuer is asked what they stand for (RFC 7662).

Anybody can make up tokens, and asking comes before every limit. So the issuer is asked about few at once, and not again
within seconds about one that it refused; what comes on top is told to come again.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from typing import Any
from urllib.parse import quote

import httpx
import structlog

from fleet_common.auth.claims import TokenRefused
from fleet_common.clock import Clock
from fleet_common.errors import FleetError, Unavailable

log = structlog.get_logger()

_MAX_CHARS = 4096
_AT_ONCE = 16
_REFUSED_S = 5.0
_REFUSED_TOKENS = 4096


class Introspector:
    """Asks one introspection endpoint, as a client of the authorization server."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        url: str,
        *,
        issuer: str,
        client_id: str,
        secret: str,
        refused_tokens: int = _REFUSED_TOKENS,
        clock: Clock = time.monotonic,
    ) -> None:
        self._client = client
        self._url = url
        self._issuer = issuer
        # RFC 6749 §2.3.1: both are form-encoded before they become a Basic credential.
        self._auth = httpx.BasicAuth(quote(client_id, safe=""), quote(secret, safe=""))
        self._asking = 0
        self._clock = clock
        self._refused: OrderedDict[bytes, float] = OrderedDict()  # until when, by SHA-256
        self._refused_tokens = refused_tokens

    async def claims(self, token: str) -> dict[str, Any]:
        """Return what the issuer says about a token; its content is not judged here.

        Raises:
            TokenRefused: the issuer does not know it, or not any more.
            Unavailable: the issuer cannot be asked, or is being asked about too many.
        """
        if len(token) > _MAX_CHARS or not token.isascii():
            raise TokenRefused("not a token")
        digest = hashlib.sha256(token.encode()).digest()
        if self._clock() < self._refused.get(digest, 0.0):
            raise TokenRefused("not active a moment ago")
        facts = await self._ask_in_turn(token)
        if facts.get("active") is not True:
            self._remember_refused(digest)
            raise TokenRefused("not active")
        # RFC 7662 §2.2: the answer comes from the issuer itself, which may leave out its name and past dates. A client
        # that acts for nobody has no subject there; a JWT would name the client (RFC 9068 §2.2).
        return {"iss": self._issuer, "iat": 1, "sub": facts.get("client_id"), **facts}

    def _remember_refused(self, digest: bytes) -> None:
        self._refused[digest] = self._clock() + _REFUSED_S
        self._refused.move_to_end(digest)
        while len(self._refused) > self._refused_tokens:
            self._refused.popitem(last=False)

    async def _ask_in_turn(self, token: str) -> dict[str, Any]:
        if self._asking >= _AT_ONCE:
            raise self._away("too many at once")
        self._asking += 1
        try:
            return await self._ask(token)
        finally:
            self._asking -= 1

    async def _ask(self, token: str) -> dict[str, Any]:
        form = {"token": token, "token_type_hint": "access_token"}
        try:
            response = await self._client.post(self._url, data=form, auth=self._auth)
            facts = response.json() if response.status_code == 200 else None
        except (FleetError, httpx.HTTPError, ValueError) as exc:
            raise self._away(type(exc).__name__) from exc
        if not isinstance(facts, dict):
            raise self._away(f"status {response.status_code}")
        return facts

    @staticmethod
    def _away(reason: str) -> Unavailable:
        log.warning("introspection_failed", reason=reason)
        return Unavailable("the authorization server", retry_after_s=2.0)
