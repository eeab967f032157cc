"""The signing keys of an authorization server, fetched once, renewed in the background, kept while it is away.

A key that nobody has seen yet makes us look again at once, so a rotation fails no call. All who wait share one
look, and there is at most one look a second: tokens with invented key ids cannot make us flood the issuer.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
import structlog
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from fleet_common.errors import FleetError, Unavailable

log = structlog.get_logger()

ALGORITHMS = ("RS256", "ES256", "PS256")
"""Signatures that can be accepted: asymmetric only, so that no public key can pass for a shared secret."""
_RENEW_S = 300.0  # a key that the issuer withdrew stops working within this time
_BETWEEN_LOOKS_S = 1.0
_MIN_RSA_BITS = 2048  # RFC 7518 §3.3


class _Unusable(Exception):
    """What came back is not what the issuer should publish."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One public key and the algorithms that its type, and the issuer, allow for it."""

    key: RSAKey | ECKey
    algorithms: frozenset[str]


class IssuerKeys:
    """The public keys of one issuer by their key id."""

    def __init__(
        self,
        client: httpx.AsyncClient,
        issuer: str,
        *,
        jwks_url: str | None = None,
        renew_s: float = _RENEW_S,
        between_looks_s: float = _BETWEEN_LOOKS_S,
    ) -> None:
        self._client = client
        self._issuer = issuer
        self._told_url = jwks_url
        self._found_url: str | None = None
        self._renew_s = renew_s
        self._between_looks_s = between_looks_s
        self._keys: Mapping[str, SigningKey] = {}
        self._looking = asyncio.Lock()
        self._looks = 0
        self._looked_at = -between_looks_s
        self._failed = True  # nothing was fetched yet

    @property
    def is_current(self) -> bool:
        """Whether the last look brought keys; those of an earlier one stay in use while it did not."""
        return not self._failed

    async def find(self, key_id: str) -> SigningKey | None:
        """Return the key with this id, or None when the issuer has none.

        Raises:
            Unavailable: we do not know it and the issuer cannot be asked.
        """
        known = self._keys.get(key_id)
        if known is not None:
            return known
        await self._look_after(self._looks, key_id)
        found = self._keys.get(key_id)
        if found is None and self._failed:
            raise Unavailable("the authorization server", retry_after_s=2.0)
        return found

    @asynccontextmanager
    async def watched(self) -> AsyncGenerator[None]:
        """Renew the keys every five minutes while the block runs."""
        async with asyncio.TaskGroup() as group:
            renewal = group.create_task(self._renew(), name="issuer-keys")
            try:
                yield
            finally:
                renewal.cancel()

    async def _renew(self) -> None:
        while True:
            await self._look_after(self._looks)
            await asyncio.sleep(self._renew_s)

    async def _look_after(self, looks: int, key_id: str | None = None) -> None:
        """Return once the key is there, or else after a look that began after the one numbered `looks`."""
        async with self._looking:
            if self._looks > looks or key_id in self._keys:
                return
            await asyncio.sleep(self._looked_at + self._between_looks_s - time.monotonic())
            self._looks += 1
            await self._look()
            self._looked_at = time.monotonic()

    async def _look(self) -> None:
        try:
            url = self._told_url or self._found_url or await self._discover()
            self._keys = signing_keys(await self._fetch(url))
            self._found_url, self._failed = url, False
        except (FleetError, httpx.HTTPError, httpx.InvalidURL, _Unusable) as exc:
            self._found_url, self._failed = (
                None,
                True,
            )  # the keys may have moved: look in the metadata again
            log.warning("issuer_keys_not_fetched", reason=str(exc), kept=len(self._keys))

    async def _discover(self) -> str:
        """Return the URL of the keys from the issuer's metadata (RFC 8414 §3, then OpenID Connect)."""
        for url in metadata_urls(self._issuer):
            try:
                metadata = await self._fetch(url)
            except _Unusable:
                continue
            # RFC 8414 §3.3: a document that names another issuer must not be used.
            if metadata.get("issuer") == self._issuer:
                return self._secure(metadata.get("jwks_uri"))
        raise _Unusable("the issuer publishes no metadata that names it and its keys")

    def _secure(self, jwks_url: Any) -> str:
        scheme = urlsplit(self._issuer).scheme  # plain http is a laptop's
        if isinstance(jwks_url, str) and jwks_url.startswith(("https://", f"{scheme}://")):
            return jwks_url
        raise _Unusable("the issuer's metadata names no keys at an https URL")

    async def _fetch(self, url: str) -> dict[str, Any]:
        response = await self._client.get(url, headers={"accept": "application/json"})
        if response.status_code != 200:
            raise _Unusable(f"{urlsplit(url).path} answered {response.status_code}")
        try:
            document = response.json()
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise _Unusable(f"{urlsplit(url).path} is not a JSON object")
        return document


def metadata_urls(issuer: str) -> tuple[str, str]:
    """Return where an issuer's metadata may be: RFC 8414 §3.1, OpenID Connect Discovery §4."""
    parts = urlsplit(issuer)
    path = parts.path.rstrip("/")
    host = f"{parts.scheme}://{parts.netloc}"
    return (
        f"{host}/.well-known/oauth-authorization-server{path}",
        f"{host}{path}/.well-known/openid-configuration",
    )


def signing_keys(jwks: Mapping[str, Any]) -> dict[str, SigningKey]:
    """Return the usable keys of a JWK Set; what we cannot use is left out and does not spoil the rest.

    Raises:
        _Unusable: it is no JWK Set, or nothing in it can be used.
    """
    rows = jwks.get("keys")
    found = {}
    for row in rows if isinstance(rows, list) else ():
        key = _signing_key(row) if isinstance(row, dict) else None
        if key is not None:
            found[row["kid"]] = key
    if not found:
        raise _Unusable("the key set holds no key that can be used")
    return found


def _signing_key(row: Mapping[str, Any]) -> SigningKey | None:
    if not isinstance(row.get("kid"), str) or row.get("use", "sig") != "sig":
        return None
    public: dict[str, Any] = {k: row[k] for k in ("kty", "n", "e", "crv", "x", "y") if k in row}
    try:
        if row.get("kty") == "RSA":
            rsa = RSAKey.import_key(public)
            strong = rsa.raw_value.key_size >= _MIN_RSA_BITS
            return _allowed(rsa, row, {"RS256", "PS256"} if strong else ())
        if row.get("kty") == "EC" and row.get("crv") == "P-256":
            return _allowed(ECKey.import_key(public), row, {"ES256"})
    except (JoseError, ValueError, TypeError):
        pass  # a key as broken as one of a type that we do not know
    return None


def _allowed(
    key: RSAKey | ECKey, row: Mapping[str, Any], algorithms: Collection[str]
) -> SigningKey | None:
    chosen = frozenset(algorithms) & {row.get("alg", alg) for alg in algorithms}
    return SigningKey(key, chosen) if chosen else None
