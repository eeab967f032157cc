"""An OAuth 2.0 server on a loopback port, as strict as the real ones: PKCE, single use, rotation, revocation.

It answers at the paths of Google, HubSpot and LinkedIn, and everybody who is asked consents at once.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

CLIENT_ID, CLIENT_SECRET = "fleet-client", "fleet-client-secret"
_AUTHORIZE = ("/o/oauth2/v2/auth", "/oauth/authorize", "/oauth/v2/authorization")
_TOKEN = ("/token", "/oauth/2026-03/token", "/oauth/v2/accessToken")
_REVOKE = ("/revoke", "/oauth/2026-03/token/revoke", "/oauth/v2/revoke")


@dataclass
class Grant:
    """What one person allowed."""

    scope: str
    access: str = ""
    refresh: str = ""
    is_live: bool = True


@dataclass
class Code:
    """What a consent is exchanged with."""

    grant: Grant
    redirect_uri: str
    challenge: str


@dataclass
class OAuthServer:
    """The server, with what tests turn and look at.

    Attributes:
        consents: whether people say yes.
        scope: what they allow; None for all that is asked for.
        rotates: a refresh token works once, and using it again ends the grant.
        lifetime_s: told of access tokens.
        fault: status that the token endpoint answers with, while set.
        fault_revoke: the same for revocation.
        hold: while cleared, refreshes wait for it.
        calls: how often each grant type, and each API path, was asked for.
    """

    consents: bool = True
    scope: str | None = None
    rotates: bool = True
    lifetime_s: int = 1800
    fault: int | None = None
    fault_revoke: int | None = None
    hold: asyncio.Event = field(default_factory=asyncio.Event)
    held: asyncio.Event = field(default_factory=asyncio.Event)
    calls: Counter[str] = field(default_factory=Counter)
    grants: list[Grant] = field(default_factory=list)
    codes: dict[str, Code] = field(default_factory=dict)
    spent: dict[str, Grant] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Let refreshes through until a test holds them."""
        self.hold.set()

    def app(self) -> Starlette:
        """Return the server's app."""
        api = [
            Route("/gmail/v1/users/me/profile", self._api({"emailAddress": "ada@example.com"})),
            Route("/account-info/v3/details", self._api({"portalId": 4711})),
            Route("/v2/userinfo", self._api({"sub": "m-1", "name": "Ada", "email": "a@b.example"})),
            Route("/echo", self._api({"ok": True}), methods=["GET", "POST"]),
        ]
        return Starlette(
            routes=[
                *(Route(path, self._authorize) for path in _AUTHORIZE),
                *(Route(path, self._token, methods=["POST"]) for path in _TOKEN),
                *(Route(path, self._revoke, methods=["POST"]) for path in _REVOKE),
                *api,
            ]
        )

    def allow(self, scope: str = "") -> Grant:
        """Return a grant that somebody gave before."""
        grant = Grant(scope)
        self.grants.append(grant)
        self._issue(grant)
        return grant

    def expire(self) -> None:
        """End every access token."""
        for grant in self.grants:
            grant.access = f"expired-{grant.access}"

    async def _authorize(self, request: Request) -> Response:
        asked = request.query_params
        if asked["client_id"] != CLIENT_ID or asked["code_challenge_method"] != "S256":
            return Response("bad request", 400)
        told = {"state": asked["state"]}
        if self.consents:
            grant = Grant(self.scope or asked["scope"])
            self.grants.append(grant)
            told["code"] = code = secrets.token_urlsafe()
            self.codes[code] = Code(grant, asked["redirect_uri"], asked["code_challenge"])
        else:
            told["error"] = "access_denied"
        return RedirectResponse(f"{asked['redirect_uri']}?{urlencode(told)}", 302)

    async def _token(self, request: Request) -> Response:
        asked = {name: str(value) for name, value in (await request.form()).items()}
        self.calls[asked["grant_type"]] += 1
        if self.fault is not None:
            return Response("busy", self.fault)
        if (asked["client_id"], asked["client_secret"]) != (CLIENT_ID, CLIENT_SECRET):
            return JSONResponse({"error": "invalid_client"}, 401)
        if asked["grant_type"] == "authorization_code":
            grant = self._of_code(asked)
        else:
            self.held.set()
            await self.hold.wait()
            grant = self._of_refresh(asked["refresh_token"])
        if grant is None or not grant.is_live:
            return JSONResponse({"error": "invalid_grant"}, 400)
        return JSONResponse(self._issue(grant))

    def _of_code(self, asked: dict[str, str]) -> Grant | None:
        code = self.codes.pop(asked["code"], None)
        digest = hashlib.sha256(asked.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if code is None or (code.redirect_uri, code.challenge) != (
            asked["redirect_uri"],
            challenge,
        ):
            return None
        return code.grant

    def _of_refresh(self, refresh: str) -> Grant | None:
        if replayed := self.spent.get(refresh):
            replayed.is_live = (
                False  # RFC 9700, section 4.14.2: whoever comes second may be a thief
            )
        return next((grant for grant in self.grants if grant.refresh == refresh), None)

    def _issue(self, grant: Grant) -> dict[str, Any]:
        told: dict[str, Any] = {"expires_in": self.lifetime_s, "token_type": "Bearer"}
        grant.access = told["access_token"] = f"access-{secrets.token_urlsafe()}"
        if self.rotates or not grant.refresh:
            if grant.refresh:
                self.spent[grant.refresh] = grant
            grant.refresh = told["refresh_token"] = f"refresh-{secrets.token_urlsafe()}"
        if grant.scope:
            told["scope"] = grant.scope
        return told

    async def _revoke(self, request: Request) -> Response:
        token = str((await request.form())["token"])
        if self.fault_revoke is not None:
            return Response("busy", self.fault_revoke)
        for grant in self.grants:
            if token in {grant.access, grant.refresh}:
                grant.is_live = False
        return Response()

    def _api(self, answer: dict[str, Any]) -> Any:
        async def handle(request: Request) -> Response:
            self.calls[request.url.path] += 1
            scheme, _, token = request.headers.get("authorization", "").partition(" ")
            live = {grant.access for grant in self.grants if grant.is_live}
            if scheme != "Bearer" or token not in live:
                return JSONResponse({"error": "invalid_token"}, 401)
            return JSONResponse(answer)

        return handle
