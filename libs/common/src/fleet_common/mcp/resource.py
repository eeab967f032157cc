"""What OAuth clients see of a door: its metadata (RFC 9728), and challenges that say where to look and what to ask for.

A door without OAuth challenges with nothing but `Bearer`, so that clients with a key of their own look no further.
"""

from __future__ import annotations

import time

from fastmcp.server.auth import AuthProvider
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from fleet_common.auth import Principal
from fleet_common.auth.oauth import OAuthDoor
from fleet_common.errors import FleetError, PermissionDenied, Unauthenticated, Unavailable
from fleet_common.mcp.gate import error_response
from fleet_common.mcp.headers import header
from fleet_common.mcp.identity import FleetToken

_KEPT_S = 300  # how long a client may keep the metadata


def authenticated(app: ASGIApp, verifier: AuthProvider, oauth: OAuthDoor | None) -> ASGIApp:
    """Return `app` behind authentication: 401 without a valid credential, 403 without a scope of this door."""
    return _Authenticated(app, verifier, oauth)


def metadata_route(oauth: OAuthDoor) -> Route:
    """Return the route of a door's metadata."""

    async def metadata(_: Request) -> Response:
        headers = {"cache-control": f"public, max-age={_KEPT_S}"}
        return JSONResponse(oauth.metadata(), headers=headers)

    return Route(oauth.metadata_path, metadata)


class _Authenticated:
    """Lets verified callers pass whose token was granted something of what is behind the door.

    FastMCP's own middleware does the same in three layers, and its answers are in the words of OAuth alone.
    """

    def __init__(self, app: ASGIApp, verifier: AuthProvider, oauth: OAuthDoor | None) -> None:
        self._app = app
        self._verifier = verifier
        self._oauth = oauth

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on as its caller's, or answer with a challenge."""
        try:
            token = await self._token(scope)
        except Unavailable as exc:
            # A 401 would make the client throw its token away and ask an issuer that is down for another one.
            await error_response(exc)(scope, receive, send)
            return
        if token is None:
            await self._stranger(scope)(scope, receive, send)
        elif self._is_without_scope(token.principal):
            text = "the token has none of the scopes of this server"
            refusal = self._challenge(PermissionDenied(text), "insufficient_scope", text)
            await refusal(scope, receive, send)
        else:
            scope["auth"], scope["user"] = token.credentials, token.user
            await self._app(scope, receive, send)

    async def _token(self, scope: Scope) -> FleetToken | None:
        """Return what the request's credential proves, None if there is none that opens this door now.

        Raises:
            Unavailable: whom to ask about it is away.
        """
        scheme, _, credential = header(scope, b"authorization").partition(" ")
        if scheme.lower() != "bearer":
            return None
        token = await self._verifier.verify_token(credential)
        if not isinstance(token, FleetToken):
            return None
        return None if token.expires_at and token.expires_at < int(time.time()) else token

    def _is_without_scope(self, principal: Principal) -> bool:
        if self._oauth is None or principal.kind != "oauth":
            return False
        return not self._oauth.scopes & (principal.scopes or set())

    def _stranger(self, scope: Scope) -> Response:
        if not header(scope, b"authorization").lower().startswith("bearer "):
            # RFC 6750 §3.1: who brings nothing is told of no error.
            return self._challenge(Unauthenticated("this door asks for a credential"))
        text = "the credential is not valid here, or not any more"
        return self._challenge(Unauthenticated(text), "invalid_token", text)

    def _challenge(self, error: FleetError, code: str = "", text: str = "") -> Response:
        parts = [f'error="{code}"', f'error_description="{text}"'] if code else []
        if self._oauth is not None:
            asked = " ".join(self._oauth.asked_scopes)
            parts += [f'scope="{asked}"', f'resource_metadata="{self._oauth.metadata_url}"']
        words = f"Bearer {', '.join(parts)}".strip()
        return error_response(error, www_authenticate=words)
