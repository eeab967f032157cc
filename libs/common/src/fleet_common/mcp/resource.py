"""What OAuth clients see of a door: its metadata (RFC 9728), and challenges that say where to look and what to ask for.

A door without OAuth challenges with nothing but `Bearer`, so that clients with a key of their own look no further.
"""

from __future__ import annotations

import time

from fastmcp.server.auth import AuthProvider
from fastmcp.server.auth.middleware import RequireAuthMiddleware
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from starlette.authentication import AuthCredentials, AuthenticationBackend, AuthenticationError
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from fleet_common.auth.oauth import OAuthDoor
from fleet_common.errors import Unavailable
from fleet_common.mcp.gate import error_response
from fleet_common.mcp.headers import header
from fleet_common.mcp.identity import FleetToken

_KEPT_S = 300  # how long a client may keep the metadata


def authenticated(app: ASGIApp, verifier: AuthProvider, oauth: OAuthDoor | None) -> ASGIApp:
    """Return `app` behind authentication: 401 without a valid credential, 403 without a scope of this door."""
    required = _RequireCaller(app, oauth)
    return AuthenticationMiddleware(required, backend=_Backend(verifier), on_error=_cannot_tell)


def metadata_route(oauth: OAuthDoor) -> Route:
    """Return the route of a door's metadata."""

    async def metadata(_: Request) -> Response:
        headers = {"cache-control": f"public, max-age={_KEPT_S}"}
        return JSONResponse(oauth.metadata(), headers=headers)

    return Route(oauth.metadata_path, metadata)


class _CannotTell(AuthenticationError):
    """A credential that may be good, but whom to ask is away."""


class _Backend(AuthenticationBackend):
    """The SDK's `BearerAuthBackend`, which looks at every header to find one."""

    def __init__(self, verifier: AuthProvider) -> None:
        self._verifier = verifier

    async def authenticate(
        self, conn: HTTPConnection
    ) -> tuple[AuthCredentials, AuthenticatedUser] | None:
        scheme, _, credential = header(conn.scope, b"authorization").partition(" ")
        if scheme.lower() != "bearer":
            return None
        try:
            token = await self._verifier.verify_token(credential)
        except Unavailable as exc:
            raise _CannotTell from exc
        if token is None or (token.expires_at and token.expires_at < int(time.time())):
            return None
        return AuthCredentials(token.scopes), AuthenticatedUser(token)


def _cannot_tell(_: HTTPConnection, error: Exception) -> Response:
    # A 401 would make the client throw its token away and ask an issuer that is down for another one.
    away = error.__cause__
    return error_response(away if isinstance(away, Unavailable) else Unavailable("authentication"))


class _RequireCaller(RequireAuthMiddleware):
    def __init__(self, app: ASGIApp, oauth: OAuthDoor | None) -> None:
        super().__init__(app, [])
        self._oauth = oauth

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse tokens that were granted nothing of what is behind the door, and let the rest pass."""
        token = getattr(scope.get("user"), "access_token", None)
        if self._oauth is not None and isinstance(token, FleetToken):
            bound = token.principal.scopes
            if token.principal.kind == "oauth" and not self._oauth.scopes & (bound or set()):
                text = "The token has none of the scopes of this server"
                await self._send_auth_error(send, 403, "insufficient_scope", text)
                return
        await super().__call__(scope, receive, send)

    def _challenge_context(self) -> list[str]:
        if self._oauth is None:
            return []
        asked = " ".join(self._oauth.asked_scopes)
        return [f'scope="{asked}"', f'resource_metadata="{self._oauth.metadata_url}"']
