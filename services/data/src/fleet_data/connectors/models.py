"""Nouns of connectors: what a provider is, whose account was connected, and what opens it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import httpx
from pydantic import SecretStr

from fleet_common.http import RetryPolicy


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose an account is at its provider.

    Attributes:
        external_id: what the provider itself calls it by, and never changes.
        label: what people call it by, such as `ada@example.com`.
    """

    external_id: str
    label: str


Identify = Callable[[httpx.AsyncClient], Awaitable[Identity]]
"""Asks a provider whose the account is that the client is authorized for."""


@dataclass(frozen=True, slots=True)
class OAuth:
    """How consent is asked for: OAuth 2.0, authorization code with PKCE.

    Attributes:
        authorize_url: where a person consents.
        token_url: where a code, or a refresh token, becomes an access token.
        revoke_url: where consent is given back (RFC 7009); None where only the provider's own pages can.
        scopes: the least that our tools need.
        asking: further parameters of the question.
    """

    authorize_url: str
    token_url: str
    revoke_url: str | None
    scopes: tuple[str, ...]
    asking: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PastedKey:
    """A key that a person makes at the provider and pastes here.

    Attributes:
        pattern: what such a key looks like, as a regular expression.
        hint: which one to make there, with the least rights that our tools need.
    """

    pattern: str
    hint: str


@dataclass(frozen=True, slots=True)
class Provider:
    """A service with accounts.

    Attributes:
        name: in settings, tools and rows, such as `hubspot`.
        title: for people.
        api_url: base of its API; a token is sent nowhere else.
        identify: asks whose an account is.
        oauth: how an account is connected, or
        key: how it is, where there is no OAuth.
        is_personal: an account serves the caller who connected it, and not the whole tenant.
        retry: what the transport may send again.
    """

    name: str
    title: str
    api_url: str
    identify: Identify
    oauth: OAuth | None = None
    key: PastedKey | None = None
    is_personal: bool = False
    retry: RetryPolicy = field(default_factory=RetryPolicy)

    def at(self, base: str) -> Provider:
        """Return the provider as it is served elsewhere: same paths, another scheme and host."""
        oauth = self.oauth and replace(
            self.oauth,
            authorize_url=_moved(self.oauth.authorize_url, base),
            token_url=_moved(self.oauth.token_url, base),
            revoke_url=self.oauth.revoke_url and _moved(self.oauth.revoke_url, base),
        )
        return replace(self, api_url=_moved(self.api_url, base), oauth=oauth)


@dataclass(frozen=True, slots=True)
class OAuthClient:
    """What the operator registered at a provider."""

    id: str
    secret: SecretStr


@dataclass(frozen=True, slots=True)
class Tokens:
    """What opens an account. Its text form shows nothing of it.

    Attributes:
        refresh: None for a key, and where a provider gives none.
        lifetime_s: of `access`; None when unknown.
        scopes: that were granted, which may be fewer than asked for.
    """

    access: str = field(repr=False)
    refresh: str | None = field(default=None, repr=False)
    lifetime_s: float | None = None
    scopes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the part that is sealed."""
        return {"access": self.access, "refresh": self.refresh}


@dataclass(frozen=True, slots=True)
class Account:
    """A connected account, without what opens it.

    Attributes:
        owner: subject of the only caller whom it serves; empty for everybody in the tenant.
        withdrawn_at: when consent turned out to be gone; None while it is there.
    """

    id: UUID
    provider: str
    owner: str
    label: str
    external_id: str
    scopes: tuple[str, ...]
    connected_at: str
    connected_by: str
    withdrawn_at: str | None


def _moved(url: str, base: str) -> str:
    to = urlsplit(base)
    return urlunsplit(urlsplit(url)._replace(scheme=to.scheme, netloc=to.netloc))
