"""The OAuth 2.1 resource server: access tokens of the company's authorization server become callers.

A token is verified once and then known by its SHA-256 for at most a minute, never past its expiry. What it opens
is decided each time: the audience at the door, the list of revoked tokens, and what the roles grant.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

import structlog

from fleet_common.auth.claims import ClaimRules, TokenRefused, VerifiedClaims
from fleet_common.auth.introspection import Introspector
from fleet_common.auth.issuer import ALGORITHMS, IssuerKeys
from fleet_common.auth.jwt import JwtReader, looks_like_jwt
from fleet_common.auth.principal import Principal
from fleet_common.auth.revocation import Revocations
from fleet_common.errors import Unavailable
from fleet_common.http import open_client
from fleet_common.metrics import Metrics
from fleet_common.policy import APPROVE_SCOPE, PolicyFile

log = structlog.get_logger()

_REMEMBERED_S = 60.0
_REMEMBERED_TOKENS = 8192
_TIMEOUT_S = 5.0
_SUBJECT = "oauth:"


@dataclass(frozen=True, slots=True)
class Introspection:
    """Where opaque tokens are asked about, and as whom."""

    url: str
    client_id: str
    client_secret: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class OAuthConfig:
    """The authorization server and how its tokens are read.

    Attributes:
        issuer: its exact `iss`; also what clients are told.
        public_url: base URL of this service as clients see it; with a door's path it is that door's audience.
    """

    issuer: str
    public_url: str
    jwks_url: str | None = None
    algorithms: tuple[str, ...] = ALGORITHMS
    tenant_claim: str = "tenant"
    roles_claim: str = "roles"
    introspection: Introspection | None = None


class _Reader(Protocol):
    async def claims(self, token: str) -> dict[str, Any]: ...


class OAuth:
    """Verifies access tokens for every door of one process."""

    def __init__(
        self,
        config: OAuthConfig,
        revocations: Revocations,
        policy: PolicyFile,
        metrics: Metrics,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.config = config
        self.policy = policy
        self._revocations = revocations
        self._metrics = metrics
        self._now = now
        self._rules = ClaimRules(config.issuer, config.tenant_claim, config.roles_claim)
        self._signed: _Reader | None = None
        self._opaque: _Reader | None = None
        self._known: OrderedDict[bytes, tuple[float, VerifiedClaims]] = OrderedDict()
        self._asking: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[None]:
        """Keep the issuer's keys and the list of revoked tokens while the block runs."""
        config = self.config
        async with open_client(
            name="issuer", timeout_s=_TIMEOUT_S, metrics=self._metrics
        ) as client:
            keys = IssuerKeys(client, config.issuer, jwks_url=config.jwks_url)
            self._metrics.gauge_at_scrape(
                "mcp_issuer_keys_current",
                "1 while the authorization server's keys can be fetched.",
                lambda: keys.is_current,
            )
            self._signed = JwtReader(keys, config.algorithms)
            if config.introspection is not None:
                self._opaque = Introspector(
                    client,
                    config.introspection.url,
                    issuer=config.issuer,
                    client_id=config.introspection.client_id,
                    secret=config.introspection.client_secret,
                )
            async with keys.watched(), self._revocations.watched():
                yield

    def door(self, path: str, service: str) -> OAuthDoor:
        """Return what the door at `path` is to OAuth clients; the scopes of `service` count behind it."""
        return OAuthDoor(self, f"{self.config.public_url}{path}", service)

    async def verify(self, token: str, audience: str) -> tuple[Principal, int] | None:
        """Return the caller and the expiry (Unix seconds) of a token for `audience`, else None.

        Raises:
            Unavailable: it cannot be told now, because the issuer or the list of revoked tokens is away.
        """
        try:
            claims = await self._claims(token)
            self._require_use(claims, audience)
        except TokenRefused as exc:
            log.info("token_refused", reason=str(exc))
            return None
        return self._principal(claims), claims.expires_at

    def was_revoked(self, principal: Principal, since: float) -> bool:
        """Return whether `principal`, seen here at `since` (Unix seconds), lost its tokens afterwards.

        Raises:
            Unavailable: the list of revoked tokens was never read.
        """
        subject = principal.subject.removeprefix(_SUBJECT)
        return subject != principal.subject and self._revocations.covers_subject(subject, since)

    def _require_use(self, claims: VerifiedClaims, audience: str) -> None:
        if audience not in claims.audiences:
            raise TokenRefused("for another resource")
        if self._revocations.covers(claims):
            raise TokenRefused("revoked")

    def _principal(self, claims: VerifiedClaims) -> Principal:
        return Principal(
            # A subject is the issuer's word: the prefix keeps it from reading like a key's.
            subject=f"{_SUBJECT}{claims.subject}",
            tenant=claims.tenant,
            roles=claims.roles,
            kind="oauth",
            scopes=claims.scopes,
        )

    async def _claims(self, token: str) -> VerifiedClaims:
        digest = hashlib.sha256(token.encode()).digest()
        known = self._recall(digest)
        if known is not None:
            return known
        # Calls that come together with one new token ask the issuer once.
        async with self._asking.setdefault(digest, asyncio.Lock()):
            return self._recall(digest) or await self._learn(digest, token)

    def _recall(self, digest: bytes) -> VerifiedClaims | None:
        until, claims = self._known.get(digest, (0.0, None))
        return claims if self._now() < until else None

    async def _learn(self, digest: bytes, token: str) -> VerifiedClaims:
        stated = await self._reader(token).claims(token)
        now = self._now()
        claims = self._rules.verified(stated, now)
        self._known[digest] = (min(now + _REMEMBERED_S, claims.expires_at), claims)
        self._known.move_to_end(digest)
        while len(self._known) > _REMEMBERED_TOKENS:
            self._known.popitem(last=False)
        return claims

    def _reader(self, token: str) -> _Reader:
        if self._signed is None:
            raise Unavailable("the authorization server")
        if looks_like_jwt(token):
            return self._signed
        if self._opaque is None:
            raise TokenRefused("not a signed token")
        return self._opaque


@dataclass(frozen=True, slots=True)
class OAuthDoor:
    """What one door is to OAuth clients: a resource of its own, with its own audience (RFC 8707).

    Attributes:
        url: exact URL of the door as clients see it; what `aud` must hold.
        service: whose scopes count behind the door; "gateway" for all.
    """

    oauth: OAuth
    url: str
    service: str

    @property
    def scopes(self) -> frozenset[str]:
        """Return every scope that some role of the policy grants behind the door, but the one to approve."""
        roles = self.oauth.policy.current.roles.values()
        granted = frozenset[str]().union(*(role.scopes for role in roles)) - {APPROVE_SCOPE}
        own = (scope for scope in granted if scope.startswith(f"{self.service}:"))
        return granted if self.service == "gateway" else frozenset(own)

    @property
    def metadata_url(self) -> str:
        """Return where the door's metadata is, for clients (RFC 9728 §3.1)."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}{self.metadata_path}"

    @property
    def metadata_path(self) -> str:
        """Return the path of the door's metadata."""
        return f"/.well-known/oauth-protected-resource{urlsplit(self.url).path}"

    @property
    def asked_scopes(self) -> list[str]:
        """Return the scopes that clients are told to ask for: all but the administrator's."""
        return sorted(scope for scope in self.scopes if not scope.endswith(":admin"))

    def metadata(self) -> dict[str, Any]:
        """Return the document of RFC 9728."""
        return {
            "resource": self.url,
            "authorization_servers": [self.oauth.config.issuer],
            "scopes_supported": sorted(self.scopes),
            "bearer_methods_supported": ["header"],
        }

    async def verify(self, token: str) -> tuple[Principal, int] | None:
        """Return the caller and the expiry of a token for this door, else None.

        Raises:
            Unavailable: it cannot be told now.
        """
        return await self.oauth.verify(token, self.url)
