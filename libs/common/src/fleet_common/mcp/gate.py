"""The ASGI layers in front of FastMCP: API-key header and admission."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from math import ceil

from pydantic_core import to_json
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from fleet_common.admission import Admission, Caller
from fleet_common.audit import AuditLog
from fleet_common.auth import Principal
from fleet_common.deadline import TIMEOUT_HEADER, deadline
from fleet_common.errors import FleetError, Overloaded
from fleet_common.logs import with_trace_id
from fleet_common.mcp.headers import first_values
from fleet_common.mcp.identity import FleetToken
from fleet_common.mcp.recording import shed
from fleet_common.policy import REGISTRY_ROLE

PRIORITY_HEADER = "Fleet-Priority"
"""HTTP header by which a caller says `batch`: nobody waits for the answer, so interactive calls go first."""

# Whoever is that and nothing else may list, and call nothing.
_REGISTRY = frozenset({REGISTRY_ROLE})
_NO_DEADLINE = nullcontext()
_PRIORITY, _TIMEOUT = PRIORITY_HEADER.lower().encode(), TIMEOUT_HEADER.lower().encode()


class ApiKeyHeader:
    """Lets clients that can only set `X-API-Key` in: it becomes the bearer token when there is none."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Add the header when it is missing and pass the request on."""
        if scope["type"] == "http":
            named = first_values(scope)
            if (key := named.get(b"x-api-key")) and not named.get(b"authorization"):
                scope["headers"] = [*scope["headers"], (b"authorization", b"Bearer " + key)]
        return self._app(scope, receive, send)


class AdmissionGate:
    """Holds a slot for each POST but those of the gateways' registries; sheds with 503 and Retry-After."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        admission: Admission,
        audit: AuditLog,
        default_timeout_s: float,
        is_nested: Callable[[Scope], bool] = lambda _scope: False,
    ) -> None:
        self._app = app
        self._is_nested = is_nested
        self._admission = admission
        self._audit = audit
        self._default_timeout_s = default_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Wait for a slot, hold it until the answer is sent, or shed."""
        if scope["type"] != "http" or scope["method"] != "POST" or self._is_nested(scope):
            await self._app(scope, receive, send)
            return
        token = getattr(scope.get("user"), "access_token", None)
        principal = token.principal if isinstance(token, FleetToken) else None
        if principal is not None and principal.roles == _REGISTRY:
            # Gateways look at the lists every few seconds: as traffic, that would keep a service from going to zero.
            await self._app(scope, receive, send)
            return
        named_s = _timeout_s(scope)
        try:
            # A time that the caller names counts from here, the wait for a slot included.
            with deadline(named_s) if named_s else _NO_DEADLINE:
                timeout_s = named_s or self._default_timeout_s
                held = await self._admission.enter(timeout_s, _caller(scope, principal))
                try:
                    await self._app(scope, receive, send)
                finally:
                    self._admission.leave(held)
        except Overloaded as refusal:
            shed(self._audit, scope, refusal)
            await error_response(refusal)(scope, receive, send)


def _timeout_s(scope: Scope) -> float | None:
    """Return the seconds that the caller gives this call; nonsense is as good as absent."""
    raw = first_values(scope).get(_TIMEOUT)
    if raw is None or not raw.isdigit() or len(raw) >= 10:
        return None
    return min(int(raw) / 1000, 3600.0) or None


def _caller(scope: Scope, principal: Principal | None) -> Caller:
    priority = first_values(scope).get(_PRIORITY)
    is_batch = priority is not None and priority.lower() == b"batch"
    return Caller(principal.tenant if principal else "", is_batch)


def error_response(error: FleetError, **headers: str) -> Response:
    """Return `error` as an HTTP answer whose body is a JSON-RPC error; for answers before a message is read.

    Args:
        error: what happened.
        headers: more of them, with `_` for `-`.
    """
    body = {
        "jsonrpc": "2.0",
        "id": None,
        "error": {
            "code": error.jsonrpc_code,
            "message": str(error),
            "data": with_trace_id(error.to_dict()),
        },
    }
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    if error.retry_after_s is not None:
        more["retry-after"] = str(max(1, ceil(error.retry_after_s)))
    return Response(to_json(body), error.http_status, more, "application/json")
