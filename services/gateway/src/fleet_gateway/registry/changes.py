"""`subscriptions/listen`: tells clients of 2026-07-28 that a list has changed.

Older clients get no such word over stateless HTTP; they ask again when they like.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import Any

from fastmcp import FastMCP
from mcp.server.subscriptions import (
    ListenHandler,
    PromptsListChanged,
    ResourcesListChanged,
    ServerEvent,
    ToolsListChanged,
)
from mcp_types import SubscriptionsListenRequestParams
from starlette.types import Scope

from fleet_common.audit import AuditLog
from fleet_common.auth import Principal
from fleet_common.errors import Overloaded, RateLimited
from fleet_common.mcp.app import KEY_PATH, MCP_PATH
from fleet_common.mcp.headers import first_values, is_repeated
from fleet_common.mcp.recording import shed
from fleet_gateway.routing.shares import Share

LISTEN = "subscriptions/listen"
_LISTEN, _SINCE = LISTEN.encode(), b"2026-07-28"
_STREAMS = 256  # each is an open connection and nothing else; one tenant holds half of them at most
_STREAMS_OF_ONE = 16  # a person with this many clients open is rare
Listener = Callable[[ServerEvent], None]


class Changes:
    """Passes each change of the registry on to every open stream."""

    def __init__(self) -> None:
        self._listeners: dict[object, Listener] = {}

    def tell(self) -> None:
        """Say that any list may have changed: which one matters to whom is for the clients' lists to show."""
        for listener in [*self._listeners.values()]:
            for event in (ToolsListChanged(), PromptsListChanged(), ResourcesListChanged()):
                listener(event)

    async def publish(self, event: ServerEvent) -> None:
        """Pass one event on."""
        for listener in [*self._listeners.values()]:
            listener(event)

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Add a listener; return what removes it."""
        token = object()
        self._listeners[token] = listener
        return lambda: self._listeners.pop(token, None) and None

    def serve_on(self, server: FastMCP[Any]) -> None:
        """Let clients of `server` listen."""
        handler = ListenHandler(self, max_subscriptions=_STREAMS)
        # FastMCP 4.1 has no public way to add a request handler.
        low_level = server._mcp_server  # noqa: SLF001
        low_level.add_request_handler(LISTEN, SubscriptionsListenRequestParams, handler)


class Listeners:
    """Who holds how many of the streams."""

    def __init__(self, audit: AuditLog) -> None:
        self._audit = audit
        what = f"open {LISTEN} streams"
        self._of_tenants = Share(_STREAMS, what=what)
        self._of_callers = Share(_STREAMS, for_one=_STREAMS_OF_ONE, what=what)

    @contextmanager
    def held(self, principal: Principal, scope: Scope) -> Generator[None]:
        """Count one stream of `principal` while the block runs.

        Raises:
            Overloaded: there are too many.
            RateLimited: the caller, or its tenant, has too many. Both are on record.
        """
        with ExitStack() as stack:
            try:
                stack.enter_context(self._of_tenants.held(principal.tenant))
                stack.enter_context(
                    self._of_callers.held(f"{principal.tenant}/{principal.subject}")
                )
            except (Overloaded, RateLimited) as refusal:
                shed(self._audit, scope, refusal)
                raise
            yield


def is_listening(scope: Scope) -> bool:
    """Return whether a request only listens: it needs no slot, because it does nothing.

    Only where the gateway itself answers, and only of a version whose headers are checked against the body. What says
    two things is not believed.
    """
    named = first_values(scope)
    return (
        named.get(b"mcp-method") == _LISTEN
        and scope["path"] in (MCP_PATH, KEY_PATH)
        and named.get(b"mcp-protocol-version", b"") >= _SINCE
        and not is_repeated(scope, b"mcp-")
    )
