"""The data service's errors, and the one place where PostgreSQL's become ours.

FleetError
├── InvalidInput
│   └── QueryRejected       PostgreSQL refused the caller's SQL; carries the SQLSTATE
├── Conflict
│   ├── VersionConflict     the record is at another version than the caller thought
│   ├── KeyReused           an idempotency key came back with other arguments
│   └── Contended           two changes met (deadlock, serialization); safe to repeat
├── NotConfigured
│   └── UnknownTenant       the tenant has no CRM yet
└── Unavailable("database") the server is away, starting or full
"""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager

import asyncpg

from fleet_common.errors import (
    AlreadyExists,
    Conflict,
    DeadlineExceeded,
    FleetError,
    InvalidInput,
    NotConfigured,
    PayloadTooLarge,
    PermissionDenied,
    Unavailable,
)

_MESSAGE_CHARS = 400


class QueryRejected(InvalidInput):
    """Raised when PostgreSQL refused the caller's SQL."""

    def __init__(self, message: str, *, sqlstate: str, hint: str | None = None) -> None:
        super().__init__(f"{_clean(message)} (SQLSTATE {sqlstate})", hint=_clean(hint) or None)
        self.sqlstate = sqlstate


class VersionConflict(Conflict):
    """Raised when a record is at another version than the caller thought."""

    def __init__(self, *, expected: int, found: int) -> None:
        super().__init__(
            f"the record is at version {found}, not {expected}",
            hint="Read it again and repeat the change",
        )


class KeyReused(Conflict):
    """Raised when an idempotency key came back with other arguments."""

    def __init__(self) -> None:
        super().__init__(
            "this idempotency_key was used with other arguments",
            hint="Use a new key for a new change",
        )


class Contended(Conflict):
    """Raised when two changes met and one had to give way; safe to repeat."""

    code = "contended"
    retryable = True

    def __init__(self) -> None:
        super().__init__("another change was under way on the same records", retry_after_s=0.2)


class UnknownTenant(NotConfigured):
    """Raised when a tenant has no CRM yet."""

    def __init__(self) -> None:
        super().__init__(
            "this tenant has no CRM yet",
            hint="An operator creates it with `python -m fleet_data tenant NAME`",
        )


@contextmanager
def translated() -> Generator[None]:
    """Turn what asyncpg raises inside the block into this service's errors."""
    try:
        yield
    except asyncpg.PostgresError as exc:
        raise from_postgres(exc) from exc
    except (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError) as exc:
        raise Unavailable("database") from exc


def from_postgres(exc: asyncpg.PostgresError) -> FleetError:
    """Return our error for one of PostgreSQL's, by SQLSTATE; DETAIL is dropped, since it quotes rows."""
    state = str(exc.sqlstate or "XX000")
    match exc:
        case asyncpg.UniqueViolationError():
            return AlreadyExists("a record with this", _column_of(exc))
        case asyncpg.ForeignKeyViolationError() if _column_of(exc) == "tenant_fkey":
            return UnknownTenant()
        case asyncpg.ForeignKeyViolationError():
            return InvalidInput(f"{_column_of(exc)} points at nothing that exists")
        case asyncpg.NotNullViolationError():
            return InvalidInput(f"{exc.column_name} must not be empty")
        case asyncpg.CheckViolationError():
            return InvalidInput(f"{_column_of(exc)} is out of range")
        case asyncpg.QueryCanceledError():
            return DeadlineExceeded("the statement ran longer than it may")
        case asyncpg.DeadlockDetectedError() | asyncpg.SerializationError():
            return Contended()
        case asyncpg.ProgramLimitExceededError():
            return PayloadTooLarge(_clean(exc.message))
        case asyncpg.InsufficientPrivilegeError() | asyncpg.ReadOnlySQLTransactionError():
            return PermissionDenied(f"{_clean(exc.message)} (SQLSTATE {state})")
    return _by_class(exc, state)


def _by_class(exc: asyncpg.PostgresError, state: str) -> FleetError:
    """Return our error by the first two characters of the SQLSTATE (PostgreSQL manual, appendix A)."""
    match state[:2]:
        case _ if state == "25P04":  # transaction_timeout
            return DeadlineExceeded("the statement ran longer than it may")
        case _ if state == "53400":  # temp_file_limit
            return PayloadTooLarge("the statement needs more temporary space than it may use")
        case "28":
            return PermissionDenied(f"{_clean(exc.message)} (SQLSTATE {state})")
        case "08" | "53" | "57" | "58":
            return Unavailable("database")
        case _:
            # asyncpg raises DataError itself for a wrong parameter, and then `message` is empty.
            return QueryRejected(exc.message or str(exc), sqlstate=state, hint=exc.hint)


def _column_of(exc: asyncpg.PostgresError) -> str:
    """Return the column a constraint is about; constraints are named `<table>_<column>[_check]`."""
    constraint = str(getattr(exc, "constraint_name", None) or "value")
    table = str(getattr(exc, "table_name", None) or "")
    return constraint.removeprefix(f"{table}_").removesuffix("_check")


def _clean(text: str | None) -> str:
    """Return `text` on one line and not longer than a caller wants to read."""
    return re.sub(r"\s+", " ", text or "").strip()[:_MESSAGE_CHARS]
