"""What OAuth clients see of a door: its metadata (RFC 9728), and challenges that say where to look and what to ask for.

A door without OAuth challenges with nothing but `Bearer`, so that clients with a key of their own look no further.
"""

from __future__ import annotations

import time

from fastmcp.server.auth import AuthProvider
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from starlette.authentication import AuthCredentials, AuthenticationBackend, AuthenticationError
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import HTTPConnection, Request
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


class _RequireCaller:
    """Lets verified callers pass whose token was granted something of what is behind the door.

    FastMCP's own middleware does the same, but its answers are in the words of OAuth alone.
    """

    def __init__(self, app: ASGIApp, oauth: OAuthDoor | None) -> None:
        self._app = app
        self._oauth = oauth

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer with a challenge."""
        token = getattr(scope.get("user"), "access_token", None)
        if not isinstance(token, FleetToken):
            await self._stranger(scope)(scope, receive, send)
        elif self._is_without_scope(token.principal):
            text = "the token has none of the scopes of this server"
            refusal = self._challenge(PermissionDenied(text), "insufficient_scope", text)
            await refusal(scope, receive, send)
        else:
            await self._app(scope, receive, send)

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
