"""Between authentication and admission: who is switched off gets 403, who has used up a limit gets 429.

Every POST at every door comes through here, lists and discovery included, and every request at a door that does not
speak MCP; probes and metrics have no door. What does not come over HTTP (stdio, in-memory clients) is counted by the
middleware instead, never by both.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from fleet_common.audit import AuditLog
from fleet_common.errors import Disabled, PayloadTooLarge, RateLimited
from fleet_common.limits import CallLimits, Verdict
from fleet_common.mcp.envelope import Envelope, read_envelope
from fleet_common.mcp.gate import error_response
from fleet_common.mcp.headers import told_besides
from fleet_common.mcp.identity import FleetToken
from fleet_common.mcp.recording import shed
from fleet_common.switches import Switches


class Turnstile:
    """See the module; every refusal is audited."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        switches: Switches,
        limits: CallLimits,
        audit: AuditLog,
        asks: Callable[[Scope], Envelope] | None = None,
    ) -> None:
        self._app = app
        self._asks = asks
        self._switches = switches
        self._limits = limits
        self._audit = audit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or say why not."""
        token = getattr(scope.get("user"), "access_token", None)
        if scope["type"] != "http" or not isinstance(token, FleetToken):
            await self._app(scope, receive, send)
            return
        principal, envelope, verdict = token.principal, None, None
        try:
            self._switches.check(principal)
            allowance = self._limits.allowance(principal)
            if not allowance.is_unlimited and (self._asks or scope["method"] == "POST"):
                if self._asks:
                    envelope = self._asks(scope)
                else:
                    envelope, receive = await read_envelope(scope, receive)
                verdict = await self._limits.take(allowance.plan(envelope.method, envelope.name))
        except (Disabled, RateLimited, PayloadTooLarge) as refusal:
            shed(self._audit, scope, refusal, envelope)
            await error_response(refusal)(scope, receive, send)
            return
        if verdict:
            told_besides(scope).extend(_left_of(verdict))
        await self._app(scope, receive, send)


def _left_of(verdict: Verdict) -> tuple[tuple[bytes, bytes], ...]:
    """Return what is left, as draft-ietf-httpapi-ratelimit-headers-10 writes it."""
    bucket = verdict.bucket
    left = f'"{bucket.policy}";r={verdict.remaining}'
    return (b"ratelimit-policy", bucket.told), (b"ratelimit", left.encode())
