"""The fleet's errors: one tree, stable codes, text that is safe to show.

FleetError
├── InvalidInput            the caller can fix the arguments
│   ├── PayloadTooLarge     the body or the result is over its limit
│   └── UnknownTool         no tool of that name, or none that this caller may see
├── Unauthenticated         no credential, or not a valid one
├── PermissionDenied        the policy says no
│   └── ApprovalDenied      a person said no
├── Misdirected             the request names a host that is served elsewhere
├── ApprovalRequired        a person must approve this first; then repeat the call
├── ApprovalInvalid         a confirmation is forged, expired, used, or for something else
├── Disabled                the operators have switched it off, for now
├── NotFound                the object does not exist, or this caller may not know that it does
├── AlreadyExists           a unique value is taken
├── Conflict                the object changed meanwhile
│   └── KeyReused           an idempotency key came back with other arguments
├── RateLimited             this caller's share is used up; retry after a while
├── Overloaded              no slot is free; retry after a while
├── DeadlineExceeded        the caller's time ran out
├── Unavailable             a dependency is away; retry after a while
│   └── AuditUnavailable    the call cannot be recorded, so it is not made
├── NotConfigured           the operator has not set up what this needs
├── UpstreamFailed          a dependency answered with an error of its own
└── InternalError           a defect of ours; details are in the log only

A package adds its own leaves under these; every class keeps the code of the row it belongs to or adds a row
with `error_table`. Messages never carry a secret, a DSN, or a row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar


class FleetError(Exception):
    """An error with a stable code and a message that is safe to show to the caller.

    Attributes:
        code: stable identifier, the same for every raise of this class.
        http_status: status at an HTTP edge.
        jsonrpc_code: code of a JSON-RPC error; mirrors the HTTP status where the protocol names none,
            because -32000..-32099 is reserved (MCP 2026-07-28, "Error codes").
        retryable: the same call may succeed later without being changed.
        retry_after_s: earliest useful retry in seconds, when known.
    """

    code: ClassVar[str] = "internal"
    http_status: ClassVar[int] = 500
    jsonrpc_code: ClassVar[int] = -32603
    retryable: ClassVar[bool] = False

    def __init__(
        self, message: str, *, retry_after_s: float | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s
        self.hint = hint

    def __str__(self) -> str:
        """Return `code: message`, then the hint and the wait, as a caller should read it."""
        text = f"{self.code}: {self.message}"
        if self.hint:
            text = f"{text}. {self.hint}"
        if self.retry_after_s is not None:
            text = f"{text} (retry after {self.retry_after_s:g} s)"
        return text

    def to_dict(self) -> dict[str, Any]:
        """Return the machine-readable form that travels beside the text."""
        facts: dict[str, Any] = {
            "code": self.code,
            "message": self.message,
            "retryable": self.retryable,
        }
        if self.retry_after_s is not None:
            facts["retryAfterMs"] = round(self.retry_after_s * 1000)
        if self.hint:
            facts["hint"] = self.hint
        return facts


class InvalidInput(FleetError):
    """Raised when the caller can fix the arguments."""

    code = "invalid_input"
    http_status = 400
    jsonrpc_code = -32602


class PayloadTooLarge(InvalidInput):
    """Raised when a body or a result is over its limit."""

    code = "payload_too_large"
    http_status = 413


class UnknownTool(InvalidInput):
    """Raised for a tool that does not exist or that this caller may not see; the two look alike."""

    code = "unknown_tool"
    http_status = 404

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no tool {name!r} here", hint="List the tools to see the names")


class Unauthenticated(FleetError):
    """Raised when there is no credential or not a valid one."""

    code = "unauthenticated"
    http_status = 401
    jsonrpc_code = 401


class PermissionDenied(FleetError):
    """Raised when the policy says no."""

    code = "permission_denied"
    http_status = 403
    jsonrpc_code = 403


class ApprovalDenied(PermissionDenied):
    """Raised when a person said no."""

    code = "approval_denied"


class Misdirected(FleetError):
    """Raised when a request names a host that this process does not serve."""

    code = "misdirected"
    http_status = 421
    jsonrpc_code = 421


class ApprovalRequired(FleetError):
    """Raised when a person must approve the call first; the same call then works once.

    `facts` says how, for programs: an id and where to approve, or the token that confirms.
    """

    code = "approval_required"
    http_status = 428
    jsonrpc_code = 428
    retryable = True

    def __init__(self, message: str, *, hint: str, facts: dict[str, Any]) -> None:
        super().__init__(message, hint=hint)
        self.facts = facts

    def to_dict(self) -> dict[str, Any]:
        """Return the machine-readable form, with how to approve."""
        return {**super().to_dict(), "approval": self.facts}


class ApprovalInvalid(FleetError):
    """Raised when a confirmation is forged, expired, used, or for something else."""

    code = "approval_invalid"
    http_status = 409
    jsonrpc_code = 409

    def __init__(self, why: str) -> None:
        super().__init__(
            f"this confirmation cannot be used: {why}",
            hint="Repeat the call without it to be asked again",
        )


class Disabled(FleetError):
    """Raised when the operators have switched off the tool, key, tenant or service."""

    code = "disabled"
    http_status = 403
    jsonrpc_code = 403


class NotFound(FleetError):
    """Raised when an object does not exist, or the caller may not know that it does."""

    code = "not_found"
    http_status = 404
    jsonrpc_code = -32602

    def __init__(self, kind: str, key: object, *, hint: str | None = None) -> None:
        super().__init__(f"{kind} {key} not found", hint=hint)


class AlreadyExists(FleetError):
    """Raised when a unique value is taken."""

    code = "already_exists"
    http_status = 409
    jsonrpc_code = 409

    def __init__(self, kind: str, key: object, *, hint: str | None = None) -> None:
        super().__init__(f"{kind} {key} already exists", hint=hint)


class Conflict(FleetError):
    """Raised when the object changed meanwhile, or an idempotency key is reused for other arguments."""

    code = "conflict"
    http_status = 409
    jsonrpc_code = 409


class KeyReused(Conflict):
    """Raised when an idempotency key came back with other arguments."""

    def __init__(self) -> None:
        super().__init__(
            "this idempotency_key was used with other arguments",
            hint="Use a new key for a new change",
        )


class RateLimited(FleetError):
    """Raised when this caller's share is used up."""

    code = "rate_limited"
    http_status = 429
    jsonrpc_code = 429
    retryable = True


class Overloaded(FleetError):
    """Raised when no slot is free within the caller's time."""

    code = "overloaded"
    http_status = 503
    jsonrpc_code = 503
    retryable = True


class DeadlineExceeded(FleetError):
    """Raised when the caller's time ran out before there was an answer."""

    code = "deadline_exceeded"
    http_status = 504
    jsonrpc_code = 504
    retryable = True


class Unavailable(FleetError):
    """Raised when a dependency is away."""

    code = "unavailable"
    http_status = 503
    jsonrpc_code = 503
    retryable = True

    def __init__(self, dependency: str, *, retry_after_s: float | None = 1.0) -> None:
        super().__init__(f"{dependency} is not available right now", retry_after_s=retry_after_s)


class AuditUnavailable(Unavailable):
    """Raised when a call cannot be recorded in the audit log: it is refused, or its answer is held back."""

    code = "audit_unavailable"

    def __init__(self) -> None:
        super().__init__("the audit log")


class NotConfigured(FleetError):
    """Raised when the operator has not set up what this call needs."""

    code = "not_configured"
    http_status = 501
    jsonrpc_code = 501


class UpstreamFailed(FleetError):
    """Raised when a dependency answered with an error of its own."""

    code = "upstream_failed"
    http_status = 502
    jsonrpc_code = 502


class InternalError(FleetError):
    """Raised for a defect of ours; the caller sees the request id, the log has the rest."""

    code = "internal"


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """One row of the published error table."""

    code: str
    http_status: int
    jsonrpc_code: int
    retryable: bool
    meaning: str


def error_table() -> list[ErrorRow]:
    """Return one row per code, in the order of the tree: the published table of docs/errors.md."""
    rows: dict[str, ErrorRow] = {}
    for cls in _tree(FleetError):
        if cls is not FleetError:
            meaning = (cls.__doc__ or "").splitlines()[0].removeprefix("Raised ")
            row = ErrorRow(cls.code, cls.http_status, cls.jsonrpc_code, cls.retryable, meaning)
            rows.setdefault(cls.code, row)
    return list(rows.values())


def _tree(cls: type[FleetError]) -> Iterator[type[FleetError]]:
    yield cls
    for child in cls.__subclasses__():
        yield from _tree(child)
