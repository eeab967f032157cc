"""From what the middleware and the gate see to audit events."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from pydantic_core import to_json, to_jsonable_python
from starlette.types import Scope

from fleet_common.audit import AuditEvent, AuditLog
from fleet_common.audit.events import Action, Decision
from fleet_common.auth import Principal
from fleet_common.digests import digest_of
from fleet_common.errors import (
    ApprovalRequired,
    AuditUnavailable,
    FleetError,
    Overloaded,
    RateLimited,
)
from fleet_common.logs import request_facts
from fleet_common.mcp.envelope import Envelope
from fleet_common.mcp.headers import header
from fleet_common.mcp.identity import FleetToken
from fleet_common.redaction import redact, redact_text

_SHED = {Overloaded.code, RateLimited.code}
_ASKED = {ApprovalRequired.code, "input_required"}
_MAX_CAPTURED = 4000  # characters of JSON; the rest is cut


class Entry:
    """One use of a tool, resource or prompt, from its arrival to its answer.

    Until `begin` has passed, whatever ends the call is a refusal. A write is recorded twice: its intent is durable
    before it starts, so that no crash hides a change, and its outcome before it is answered.

    Attributes:
        writes: whether the tool may change something; set it before `begin`.
        arguments: digest of the arguments; None when they were not read.
        version: version of the object that was approved for change, if there was an approval.
    """

    def __init__(
        self,
        log: AuditLog,
        action: Action,
        target: str,
        principal: Principal | None,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        self.writes = False
        self.version: str | None = None
        self.arguments = None if arguments is None else digest_of(arguments, log.key)
        self._log = log
        self._action: Action = action
        self._target = target
        self._principal = principal
        self._captured = {"arguments": _masked(arguments)} if log.captures else None
        self._started = time.monotonic()
        self._rule = ""
        self._denied_by: str | None = None
        self._begun = self._closed = False

    def decided(self, *, allowed: bool, rule: str) -> None:
        """Remember what the policy said."""
        self._rule = rule
        self._denied_by = None if allowed else rule

    async def begin(self) -> None:
        """Return when the call may start.

        Raises:
            AuditUnavailable: it cannot be recorded.
        """
        self._log.check()
        if self.writes:
            await self._log.commit(self._event("started", "allow", self._rule))
        self._begun = True

    def close(self, outcome: str) -> None:
        """Record what came of it, unless that is done already; for reads, and for calls nobody waits for."""
        if not self._closed:
            self._closed = True
            self._log.append(self._final(outcome))

    async def answered(self, outcome: str, content: object = None) -> AuditUnavailable | None:
        """Record what came of it and return once the caller may know; an error stands in for the answer."""
        if self._captured is not None:
            self._captured["result"] = _masked(content)
        if not (self._begun and self.writes):
            self.close(outcome)
            return None
        self._closed = True
        try:
            await self._log.commit(self._final(outcome))
        except AuditUnavailable as error:
            return error
        return None

    def refusal(self, outcome: str) -> AuditEvent:
        """Return the event of a call that never began."""
        return self._event(outcome, _undone(outcome), self._denied_by or outcome)

    def _final(self, outcome: str) -> AuditEvent:
        if self._begun:
            return self._event(outcome, "allow", self._rule)
        return self.refusal(outcome)

    def _event(self, outcome: str, decision: Decision, rule: str) -> AuditEvent:
        who = self._principal
        bound = request_facts()
        return AuditEvent(
            action=self._action,
            target=self._target,
            decision=decision,
            outcome=outcome,
            rule=rule,
            subject=who.subject if who else None,
            tenant=who.tenant if who else None,
            roles=tuple(who.roles) if who else (),
            request_id=bound.get("request_id"),
            trace_id=bound.get("trace_id"),
            ms=(time.monotonic() - self._started) * 1000,
            arguments=self.arguments,
            versions={"approved": self.version} if self.version else None,
            captured=dict(self._captured) if self._captured else None,
        )


def shed(log: AuditLog, scope: Scope, error: FleetError, envelope: Envelope | None = None) -> None:
    """Record a request that was turned away; without an envelope its headers tell what it wanted.

    A flood is counted: requests of one caller for one thing become one record each moment.
    """
    token = getattr(scope.get("user"), "access_token", None)
    principal = token.principal if isinstance(token, FleetToken) else None
    method, name = (envelope.method, envelope.name) if envelope else _named(scope)
    action: Action = "tool" if method == "tools/call" else "request"
    target = name or scope["path"]

    def event() -> AuditEvent:
        return Entry(log, action, target, principal).refusal(error.code)

    log.tally((action, target, principal, error.code), event)


def _named(scope: Scope) -> tuple[str, str]:
    return header(scope, b"mcp-method"), header(scope, b"mcp-name")


def _undone(outcome: str) -> Decision:
    if outcome in _SHED:
        return "shed"
    return "ask" if outcome in _ASKED else "deny"


def _masked(value: object) -> str | None:
    if value is None:
        return None
    plain = to_jsonable_python(value, fallback=repr)
    return redact_text(to_json(redact(plain)).decode())[:_MAX_CAPTURED]
