"""The router: an ASGI app that sends each MCP request to the service that owns it.

2026-07-28 clients are routed by their headers and their bodies stream through unread. Older clients' bodies are
read, up to 4 MiB, for method and name. Lists are asked of every service and merged; discovery, initialisation,
notifications and the gateway's own `fleet_*` tools are answered by the gateway's own server.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from fleet_common.audit import AuditLog
from fleet_common.auth import Principal
from fleet_common.errors import InvalidInput, Overloaded, RateLimited, Unauthenticated, Unavailable
from fleet_common.limits import CallLimits
from fleet_common.mcp.body import Kept, keep_body
from fleet_common.mcp.envelope import Envelope
from fleet_common.mcp.gate import error_response
from fleet_common.mcp.identity import FleetToken
from fleet_common.mcp.recording import shed
from fleet_common.tracing import describe
from fleet_gateway.lists.service import ListMerger
from fleet_gateway.registry.changes import Listeners, is_listening
from fleet_gateway.registry.service import Registry
from fleet_gateway.routing.client import Destination, Forwarder
from fleet_gateway.routing.models import LISTS, TASKS, method_in, of_body, of_headers
from fleet_gateway.toolsets.models import CALL, Toolset, of_query

_STALE_S = 1.0  # an unknown name makes the gateway look again, but no more often than this
_BY_HEADER = {"tools/call", "prompts/get", "resources/read"}
_OWNED = {*_BY_HEADER, "completion/complete"}


class Router:
    """What is behind `/mcp`."""

    def __init__(
        self,
        local: ASGIApp,
        registry: Registry,
        forwarder: Forwarder,
        lists: ListMerger,
        fallbacks: Sequence[tuple[str, str]] = (),
        *,
        listeners: Listeners,
        inner: InnerCalls | None = None,
    ) -> None:
        self._listeners = listeners
        self._inner = inner
        self._fallbacks = fallbacks
        self._local = local
        self._registry = registry
        self._forwarder = forwarder
        self._lists = lists

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the request where it belongs."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._local(scope, receive, send)
            return
        try:
            await self._route(scope, receive, send)
        except (InvalidInput, Overloaded, RateLimited, Unauthenticated, Unavailable) as exc:
            await error_response(exc)(scope, receive, send)

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        principal = principal_of(scope)
        if is_listening(scope):
            # It holds no slot, so it must not become anything else: the server checks header against body.
            with self._listeners.held(principal, scope):
                await self._local(scope, receive, send)
            return
        envelope = of_headers(scope)
        if envelope is None or envelope.method not in _BY_HEADER or envelope.name == CALL:
            receive = kept = await keep_body(receive)
            message = kept.parsed()
            if (method := method_in(message)) in LISTS:
                describe(method)
                await self._lists.answer(message, principal, scope, receive, send)
                return
            envelope = of_body(message)
            if envelope.name == CALL and envelope.method == "tools/call":
                envelope, scope, body = unwrapped(message, scope)
                receive = Kept(body, receive)
                if self._inner is not None:
                    await self._inner.count(principal, scope, envelope)
        owner = await self._owner(envelope, of_query(scope["query_string"]))
        if owner is None:
            await self._local(scope, receive, send)
        else:
            describe(envelope.method, envelope.name)
            to = Destination(owner, fallback=self._fallback(envelope, owner))
            await self._forwarder.forward(to, principal, scope, receive, send)

    def _fallback(self, envelope: Envelope, owner: str) -> str | None:
        if not self._fallbacks or envelope.method != "tools/call":
            return None
        return next(
            (
                service
                for glob, service in self._fallbacks
                if service != owner and fnmatchcase(envelope.name, glob)
            ),
            None,
        )

    async def _owner(self, envelope: Envelope, toolset: Toolset) -> str | None:
        if envelope.method in TASKS:
            service = envelope.name.partition(".")[0]
            return service if service in self._registry.catalogue.services else None
        if envelope.method not in _OWNED or envelope.name.startswith("fleet_"):
            return None
        if envelope.method == "tools/call" and not toolset.has(envelope.name):
            return None
        owner = self._registry.catalogue.owner(envelope)
        if owner is None:
            await self._registry.refresh_if_older(_STALE_S)
            owner = self._registry.catalogue.owner(envelope)
        if owner is None and (unseen := self._registry.catalogue.unseen()):
            # It may well be theirs: a call that comes while a service starts is worth repeating.
            raise Unavailable(f"the {unseen} service")
        return owner


@dataclass(frozen=True, slots=True)
class InnerCalls:
    """Holds the limits of the tools that are called through `fleet_call_tool`; the door has counted only that."""

    limits: CallLimits
    audit: AuditLog

    async def count(self, principal: Principal, scope: Scope, envelope: Envelope) -> None:
        """Take the call out of the inner tool's own buckets.

        Raises:
            RateLimited: one is used up; it is on record.
        """
        try:
            await self.limits.spend_inside(principal, CALL, envelope.name)
        except RateLimited as exc:
            shed(self.audit, scope, exc, envelope)
            raise


def unwrapped(message: dict[str, Any], scope: Scope) -> tuple[Envelope, Scope, bytes]:
    """Return the call inside a `fleet_call_tool` as if the client had made it itself.

    Policy, approval, audit, progress and cancellation are then the tool's own.

    Raises:
        InvalidInput: there is no call in it.
    """
    arguments = message["params"].get("arguments")
    if not isinstance(arguments, dict) or not isinstance(arguments.get("name"), str):
        raise InvalidInput(f"{CALL} takes the `name` of a tool and its `arguments`")
    inner = arguments.get("arguments")
    if arguments["name"] == CALL or not isinstance(inner, dict | None):
        raise InvalidInput(f"{CALL} calls another tool, with an object of arguments")
    params = {**message["params"], "name": arguments["name"], "arguments": inner or {}}
    body = json.dumps({**message, "params": params}).encode()
    changed = {b"mcp-name": arguments["name"].encode(), b"content-length": str(len(body)).encode()}
    headers = [(name, changed.get(name, value)) for name, value in scope["headers"]]
    return Envelope("tools/call", arguments["name"]), {**scope, "headers": headers}, body


def principal_of(scope: Scope) -> Principal:
    """Return the caller that authentication put into the scope.

    Raises:
        Unauthenticated: there is none; the door's authentication should not have let the request in.
    """
    token = getattr(scope.get("user"), "access_token", None)
    if not isinstance(token, FleetToken):
        raise Unauthenticated("this call has no verified caller")
    return token.principal
