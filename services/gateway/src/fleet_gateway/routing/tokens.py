"""What a service gets instead of the caller's credential: a token for itself alone.

The gateway mints one, or asks the company's authorization server for one (RFC 8693 token exchange). In an exchange
an OAuth caller's own token is the subject; for a fleet key, and for a list, which callers of one scope share, it is
an assertion that the gateway signs for the authorization server, which knows its public key.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import quote

import httpx
from starlette.datastructures import Headers
from starlette.types import Scope

from fleet_common.auth import Principal
from fleet_common.auth.internal import InternalSigner
from fleet_common.errors import Unavailable, UpstreamFailed
from fleet_common.http import open_client

_GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
_ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - the name of a kind
_JWT = "urn:ietf:params:oauth:token-type:jwt"
_RENEWED_S = 30  # before a token ends
_KEPT = 4096


class Tokens(Protocol):
    """Where tokens for services come from."""

    def opened(self) -> AbstractAsyncContextManager[None]:
        """Keep what is needed while the block runs."""
        ...

    async def token(self, principal: Principal, service: str, scope: Scope) -> str:
        """Return a token that proves `principal` to `service`; `scope` is the caller's request."""
        ...


class Minted:
    """Tokens that the gateway signs itself."""

    def __init__(self, signer: InternalSigner) -> None:
        self._signer = signer

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[None]:
        """Do nothing."""
        yield

    async def token(self, principal: Principal, service: str, scope: Scope) -> str:  # noqa: ARG002 - as in Tokens
        """Return a token that is valid for at least half a minute."""
        return self._signer.mint(principal, audience=service)


@dataclass(frozen=True, slots=True)
class ExchangeOptions:
    """The token endpoint and how the gateway speaks to it.

    Attributes:
        audience: what the tokens are for; `{service}` stands for the service's name.
    """

    url: str
    client_id: str
    client_secret: str = field(repr=False)
    audience: str = "{service}"


class Exchanged:
    """Tokens of an authorization server, each kept until shortly before it ends."""

    def __init__(
        self,
        options: ExchangeOptions,
        signer: InternalSigner,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._options = options
        # RFC 6749 §2.3.1: both are form-encoded before they become a Basic credential.
        self._auth = httpx.BasicAuth(
            quote(options.client_id, safe=""), quote(options.client_secret, safe="")
        )
        self._signer = signer
        self._now = now
        self._kept: OrderedDict[bytes, tuple[float, str]] = OrderedDict()
        self._asking: dict[bytes, asyncio.Lock] = {}
        self._client: httpx.AsyncClient | None = None

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[None]:
        """Keep a connection to the authorization server."""
        async with open_client(name="token_exchange", timeout_s=5.0) as client:
            self._client = client
            try:
                yield
            finally:
                self._client = None

    async def token(self, principal: Principal, service: str, scope: Scope) -> str:
        """Return a token for `service`, asked for once however many callers wait for it.

        Raises:
            Unavailable: the authorization server does not answer.
            UpstreamFailed: it refuses.
        """
        subject, kind = self._subject(principal, scope)
        # A minted subject changes every half minute; whom it stands for does not.
        who = subject if kind == _ACCESS_TOKEN else repr(principal)
        slot = hashlib.sha256(f"{service}\0{who}".encode()).digest()
        lock = self._asking.setdefault(slot, asyncio.Lock())
        async with lock:
            kept = self._kept.get(slot)
            if kept is None or self._now() >= kept[0]:
                kept = await self._exchange(subject, kind, service)
                self._keep(slot, kept)
        if not lock.locked():
            self._asking.pop(slot, None)
        return kept[1]

    def _keep(self, slot: bytes, kept: tuple[float, str]) -> None:
        self._kept[slot] = kept
        self._kept.move_to_end(slot)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)

    def _subject(self, principal: Principal, scope: Scope) -> tuple[str, str]:
        _, _, own = Headers(scope=scope).get("authorization", "").partition(" ")
        if principal.kind == "oauth" and own:
            return own, _ACCESS_TOKEN
        return self._signer.mint(principal, audience=self._options.url), _JWT

    async def _exchange(self, subject: str, kind: str, service: str) -> tuple[float, str]:
        if self._client is None:
            raise Unavailable("the gateway")
        response = await self._client.post(
            self._options.url,
            auth=self._auth,
            data={
                "grant_type": _GRANT,
                "subject_token": subject,
                "subject_token_type": kind,
                "requested_token_type": _ACCESS_TOKEN,
                "audience": self._options.audience.format(service=service),
            },
        )
        if response.status_code != 200:
            raise UpstreamFailed(f"the authorization server gave no token for {service}")
        try:
            answer = response.json()
            lifetime_s = float(answer.get("expires_in", 60))
            return self._now() + max(1.0, lifetime_s - _RENEWED_S), str(answer["access_token"])
        except (ValueError, KeyError, TypeError, AttributeError) as exc:
            raise UpstreamFailed("the authorization server answered without a token") from exc
