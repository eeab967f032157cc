"""The token endpoint's side of OAuth 2.0: what we ask it, and what its refusals mean (RFC 6749, 7009, 7636)."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

import httpx

from fleet_common.errors import FleetError, NotConfigured, Unavailable, UpstreamFailed
from fleet_common.http.retry import retry_after_s
from fleet_data.connectors.errors import ConsentWithdrawn
from fleet_data.connectors.models import OAuth, OAuthClient, Tokens

# Shorter than a transaction may be: a token that was rotated must still be stored.
_TIMEOUT_S = 10.0
# RFC 6749, section 5.2; the others are HubSpot's.
_GONE = {"invalid_grant", "bad_refresh_token", "bad_auth_code"}
_UNKNOWN_CLIENT = {"invalid_client", "unauthorized_client", "bad_client_id", "bad_client_secret"}


@dataclass(frozen=True, slots=True)
class TokenEndpoint:
    """What one provider gives tokens for."""

    provider: str
    oauth: OAuth
    client: OAuthClient
    http: httpx.AsyncClient

    def authorize_url(self, *, state: str, verifier: str, redirect_uri: str) -> str:
        """Return where a person consents."""
        digest = hashlib.sha256(verifier.encode()).digest()
        asked = {
            "response_type": "code",
            "client_id": self.client.id,
            "redirect_uri": redirect_uri,
            "scope": " ".join(self.oauth.scopes),
            "state": state,
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
            **self.oauth.asking,
        }
        return f"{self.oauth.authorize_url}?{urlencode(asked)}"

    async def exchange(self, code: str, *, verifier: str, redirect_uri: str) -> Tokens:
        """Return what a code is worth.

        Raises:
            ConsentWithdrawn: nothing: it was used, has expired, or is for somebody else.
        """
        return await self._ask(
            {
                "grant_type": "authorization_code",
                "code": code,
                "code_verifier": verifier,
                "redirect_uri": redirect_uri,
            }
        )

    async def refresh(self, refresh: str) -> Tokens:
        """Return fresh tokens; a provider that rotates none leaves `refresh` as it is.

        Raises:
            ConsentWithdrawn: the provider takes the refresh token no more.
        """
        fresh = await self._ask({"grant_type": "refresh_token", "refresh_token": refresh})
        return fresh if fresh.refresh else replace(fresh, refresh=refresh)

    async def revoke(self, tokens: Tokens) -> bool:
        """Give consent back; False when the provider did not confirm it."""
        if self.oauth.revoke_url is None:
            return False
        asked = {"token": tokens.refresh or tokens.access, **self._proof()}
        reply = await self.http.post(self.oauth.revoke_url, data=asked, timeout=_TIMEOUT_S)
        return reply.is_success

    async def _ask(self, asked: dict[str, str]) -> Tokens:
        reply = await self.http.post(
            self.oauth.token_url,
            data={**asked, **self._proof()},
            headers={"Accept": "application/json"},
            timeout=_TIMEOUT_S,
        )
        if not reply.is_success:
            raise self._refusal(reply)
        return _tokens(reply, self.provider, self.oauth.scopes)

    def _proof(self) -> dict[str, str]:
        return {
            "client_id": self.client.id,
            "client_secret": self.client.secret.get_secret_value(),
        }

    def _refusal(self, reply: httpx.Response) -> FleetError:
        """Return what a refusal means. Its own words stay out: they may quote what was sent."""
        if reply.status_code == 429 or reply.status_code >= 500:
            return Unavailable(self.provider, retry_after_s=retry_after_s(reply))
        if _error(reply) in _UNKNOWN_CLIENT:
            return NotConfigured(
                f"{self.provider} does not know our client id or secret",
                hint="The operator corrects FLEET_DATA_CONNECTOR_CLIENTS",
            )
        if _error(reply) in _GONE:
            return ConsentWithdrawn(self.provider)
        return UpstreamFailed(f"{self.provider} answered {reply.status_code} instead of tokens")


def _tokens(reply: httpx.Response, provider: str, asked: tuple[str, ...]) -> Tokens:
    try:
        told: dict[str, Any] = reply.json()
        # RFC 6749, section 5.1: no scope means the scope that was asked for. Some write commas.
        scopes = str(told.get("scope") or " ".join(asked)).replace(",", " ").split()
        lifetime = told.get("expires_in")
        return Tokens(
            access=str(told["access_token"]),
            refresh=told.get("refresh_token"),
            lifetime_s=None if lifetime is None else float(lifetime),
            scopes=tuple(scopes),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        # Not the cause: its text may be the token.
        raise UpstreamFailed(f"{provider} answered with no token in it") from None


def _error(reply: httpx.Response) -> str:
    try:
        told = reply.json()
        return str(told.get("error") or told.get("status") or "").lower()
    except (ValueError, AttributeError):
        return ""
