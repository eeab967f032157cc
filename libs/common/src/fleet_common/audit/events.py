"""What one record says: a typed event."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

Action = Literal["tool", "resource", "prompt", "completion", "webhook", "request", "command"]
"""What was asked for; `request` is an HTTP request for a signed link, or one turned away before anybody read it."""

Decision = Literal["allow", "deny", "shed", "ask", "approve", "reject", "disable", "enable"]
"""What the fleet, or a person, decided; `ask` means that a person must approve first."""

_MAX_TEXT = 256  # of a name the caller chose


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """One decision and what came of it.

    Attributes:
        action: the kind of thing that was used.
        target: its name or URI, as the caller gave it.
        decision: whether it was let through.
        rule: what decided: the policy's rule, or the code of the guard that refused.
        outcome: `started`, `ok`, `error`, `cancelled`, or the code of the error that was answered.
        subject: the caller; None when nobody was verified.
        ms: time from arrival to answer, in milliseconds.
        arguments: digest of the arguments, keyed with the audit key, if there is one; never the arguments themselves.
        versions: versions of the objects that were changed, by name.
        captured: masked arguments and results, where the operator asked for them.
        count: how many alike ones this stands for; the other attributes are the first one's.
    """

    action: Action
    target: str
    decision: Decision
    outcome: str
    rule: str = ""
    subject: str | None = None
    tenant: str | None = None
    roles: tuple[str, ...] = ()
    request_id: str | None = None
    trace_id: str | None = None
    ms: float | None = None
    arguments: str | None = None
    versions: Mapping[str, str] | None = None
    captured: Mapping[str, Any] | None = None
    count: int = 1
    time: datetime = field(default_factory=lambda: datetime.now(UTC))

    def facts(self) -> dict[str, Any]:
        """Return the event as its record carries it; what is unknown is left out."""
        facts: dict[str, Any] = {
            "time": timestamp(self.time),
            "request": self.request_id,
            "trace": self.trace_id,
            "subject": self.subject,
            "tenant": self.tenant,
            "roles": sorted(self.roles) or None,
            "action": self.action,
            "target": self.target[:_MAX_TEXT],
            "decision": self.decision,
            "rule": self.rule[:_MAX_TEXT] or None,
            "outcome": self.outcome,
            "ms": None if self.ms is None else round(self.ms, 1),
            "arguments": self.arguments,
            "versions": self.versions,
            "captured": self.captured,
            "count": self.count if self.count > 1 else None,
        }
        return {name: value for name, value in facts.items() if value is not None}


def timestamp(moment: datetime) -> str:
    """Return a moment as records write it: UTC, microseconds, sortable as text."""
    return f"{moment.astimezone(UTC).isoformat(timespec='microseconds')[:-6]}Z"
