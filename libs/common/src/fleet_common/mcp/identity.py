"""Who is calling this MCP request: token verifiers for the HTTP doors, and the caller as a dependency of tools."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cached_property, lru_cache
from typing import Any, cast

import anyio.to_thread
from fastmcp.dependencies import Depends
from fastmcp.server.auth import AccessToken, AuthProvider, TokenVerifier
from fastmcp.server.dependencies import get_access_token
from mcp.server.auth.middleware.auth_context import auth_context_var
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from pydantic import ConfigDict
from starlette.authentication import AuthCredentials

from fleet_common.auth import Principal
from fleet_common.auth.internal import InternalVerifier, is_internal
from fleet_common.auth.keys import PREFIX, KeyFile, KeyRecord
from fleet_common.auth.oauth import OAuthDoor
from fleet_common.auth.usage import KeyUsage
from fleet_common.errors import Unauthenticated
from fleet_common.policy import Grant, Role

# The caller of this call and the roles that allow it; the grant is only worked out for tools that ask.
_acting: ContextVar[tuple[Principal, tuple[Role, ...]] | None] = ContextVar(
    "fleet_acting", default=None
)


class FleetToken(AccessToken):
    """A verified credential as FastMCP carries it.

    The credential's text is replaced by its hash, so that nothing downstream (task snapshots, spans, logs)
    can leak or forward it.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    principal: Principal

    @cached_property
    def user(self) -> AuthenticatedUser:
        """Return the caller as Starlette and FastMCP look for it in a request's scope."""
        return AuthenticatedUser(self)

    @cached_property
    def credentials(self) -> AuthCredentials:
        """Return what the caller may do, as Starlette looks for it."""
        return AuthCredentials(self.scopes)

    @classmethod
    def of(cls, principal: Principal, text: str, expires_at: int | None = None) -> FleetToken:
        """Return the token that stands for `principal`."""
        return _token(principal, hashlib.sha256(text.encode()).hexdigest(), expires_at)


@lru_cache(maxsize=1024)
def _token(principal: Principal, digest: str, expires_at: int | None) -> FleetToken:
    return FleetToken(
        token=digest,
        # What FastMCP keeps apart by client (a task's owner) is kept apart by tenant, too.
        client_id=f"{principal.tenant}/{principal.subject}",
        subject=principal.subject,
        scopes=sorted(principal.scopes or ()),
        expires_at=expires_at,
        principal=principal,
    )


class KeyVerifier(TokenVerifier):
    """Accepts fleet keys and nothing else: the verifier of `/key/mcp`."""

    def __init__(self, keys: KeyFile, usage: KeyUsage) -> None:
        super().__init__()
        self._keys = keys
        self._usage = usage
        self._tokens: dict[str, tuple[KeyRecord, FleetToken]] = {}  # by the key's id

    async def verify_token(self, token: str) -> AccessToken | None:
        """Return the caller of a valid fleet key, else None."""
        if not token.startswith(PREFIX):
            return None
        if self._keys.is_stale:
            await anyio.to_thread.run_sync(self._keys.refresh)
        record = self._keys.find(token)
        if record is None:
            return None
        self._usage.note(record.id)
        known = self._tokens.get(record.id)
        if known is None or known[0] is not record:
            known = self._tokens[record.id] = record, FleetToken.of(record.principal(), token)
        return known[1]


class FleetVerifier(KeyVerifier):
    """Accepts fleet keys, the gateway's internal tokens and OAuth access tokens: the verifier of `/mcp`.

    The kind is told by the key's prefix or the token's type, so no kind pays for parsing another.
    """

    def __init__(
        self,
        keys: KeyFile,
        usage: KeyUsage,
        internal: InternalVerifier | None,
        oauth: OAuthDoor | None,
    ) -> None:
        super().__init__(keys, usage)
        self._internal = internal
        self._oauth = oauth

    async def verify_token(self, token: str) -> AccessToken | None:
        """Return the caller of a valid key or token, else None.

        Raises:
            Unavailable: it is an OAuth token that cannot be judged now.
        """
        if token.startswith(PREFIX):
            return await super().verify_token(token)
        verified = None
        if is_internal(token):
            verified = self._internal.verify(token) if self._internal else None
        elif self._oauth is not None:
            verified = await self._oauth.verify(token)
        return FleetToken.of(verified[0], token, expires_at=verified[1]) if verified else None


async def principal_of(verifier: AuthProvider | None, credential: str) -> Principal | None:
    """Return the caller that `credential` proves to a door with this verifier, or None."""
    token = await verifier.verify_token(credential) if verifier else None
    return token.principal if isinstance(token, FleetToken) else None


def caller(local: Principal | None) -> Principal | None:
    """Return the caller of the current request: the token's, else `local` (stdio and in-memory clients)."""
    token = get_access_token()
    return token.principal if isinstance(token, FleetToken) else local


@contextmanager
def acting_as(principal: Principal, roles: tuple[Role, ...] = ()) -> Iterator[None]:
    """Make `principal` what `CurrentPrincipal` gives while the block runs, and `CurrentGrant` what `roles` grant.

    Args:
        principal: the verified caller.
        roles: `Decision.roles` of what is being used; without them the grant is empty.
    """
    reset = _acting.set((principal, roles))
    try:
        yield
    finally:
        _acting.reset(reset)


@contextmanager
def acting_as_token(principal: Principal) -> Iterator[None]:
    """Make `principal` the verified caller while the block runs, where there is no HTTP request that says so."""
    reset = auth_context_var.set(AuthenticatedUser(FleetToken.of(principal, "")))
    try:
        yield
    finally:
        auth_context_var.reset(reset)


def _require_acting() -> tuple[Principal, tuple[Role, ...]]:
    acting = _acting.get()
    if acting is None:
        raise Unauthenticated("this call has no verified caller")
    return acting


def _principal() -> Principal:
    return _require_acting()[0]


def _grant() -> Grant:
    return Grant.of(*_require_acting())


def CurrentPrincipal() -> Principal:  # noqa: N802 - a dependency reads like FastMCP's CurrentContext()
    """Return the dependency that gives a tool its verified caller; it never shows in the tool's schema."""
    # Any: Depends returns a marker that FastMCP replaces by the value before the tool runs.
    return cast(Principal, cast(Any, Depends(_principal)))


def CurrentGrant() -> Grant:  # noqa: N802 - as above
    """Return the dependency that gives a tool how far its caller reaches: rows, repositories, namespaces, masks."""
    # Any: as above.
    return cast(Grant, cast(Any, Depends(_grant)))


def asks_for_its_caller(fn: Callable[..., Any]) -> bool:
    """Return whether a function, or anything it depends on, is given the `CurrentPrincipal`."""
    defaults = (p.default for p in inspect.signature(fn).parameters.values())
    factories = [d.factory for d in defaults if callable(getattr(d, "factory", None))]
    return _principal in factories or any(map(asks_for_its_caller, factories))
