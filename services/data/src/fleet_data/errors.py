"""The data service's errors, and the one place where PostgreSQL's become ours.

FleetError
├── InvalidInput
│   └── QueryRejected       PostgreSQL refused the caller's SQL; carries the SQLSTATE
├── Conflict
│   ├── VersionConflict     the record is at another version than the caller thought
│   └── Contended           two changes met (deadlock, serialization); safe to repeat
├── NotConfigured
│   └── UnknownTenant       the tenant has no CRM yet
└── Unavailable("database") the server is away, starting or full
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
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
    except TimeoutError as exc:
        raise DeadlineExceeded("the database did not answer in time") from exc
    except (asyncpg.InterfaceError, asyncpg.InternalClientError, OSError) as exc:
        raise Unavailable("database") from exc


def from_postgres(exc: asyncpg.PostgresError) -> FleetError:
    """Return our error for one of PostgreSQL's; DETAIL is dropped, since it quotes rows."""
    for kind, ours in _BY_TYPE.items():
        if isinstance(exc, kind):
            return ours(exc)
    state = str(exc.sqlstate or "XX000")
    make = _BY_STATE.get(state) or _BY_STATE.get(state[:2])
    return make(exc) if make else _rejected(exc)


def _too_slow(_: asyncpg.PostgresError) -> FleetError:
    return DeadlineExceeded("the statement ran longer than it may")


def _away(_: asyncpg.PostgresError) -> FleetError:
    return Unavailable("database")


def _contended(_: asyncpg.PostgresError) -> FleetError:
    return Contended()


def _denied(exc: asyncpg.PostgresError) -> FleetError:
    return PermissionDenied(f"{_clean(exc.message)} (SQLSTATE {exc.sqlstate})")


def _rejected(exc: asyncpg.PostgresError) -> FleetError:
    # asyncpg raises DataError itself for a wrong parameter, and then `message` is empty.
    message = exc.message or str(exc.args[0])
    return QueryRejected(message, sqlstate=str(exc.sqlstate), hint=exc.hint)


def _points_nowhere(exc: asyncpg.PostgresError) -> FleetError:
    column = _column_of(exc)
    if column == "tenant_fkey":
        return UnknownTenant()
    return InvalidInput(f"{column} points at nothing that exists")


_BY_TYPE: dict[type[asyncpg.PostgresError], Callable[[asyncpg.PostgresError], FleetError]] = {
    asyncpg.UniqueViolationError: lambda e: AlreadyExists("a record with this", _column_of(e)),
    asyncpg.ForeignKeyViolationError: _points_nowhere,
    asyncpg.NotNullViolationError: lambda e: InvalidInput(f"{e.column_name} must not be empty"),
    asyncpg.CheckViolationError: lambda e: InvalidInput(f"{_column_of(e)} is out of range"),
    asyncpg.InvalidCachedStatementError: _away,  # the schema changed meanwhile; a repeat prepares anew
    asyncpg.QueryCanceledError: _too_slow,
    asyncpg.DeadlockDetectedError: _contended,
    asyncpg.SerializationError: _contended,
    asyncpg.ProgramLimitExceededError: lambda e: PayloadTooLarge(_clean(e.message)),
    asyncpg.InsufficientPrivilegeError: _denied,
    asyncpg.ReadOnlySQLTransactionError: _denied,
}
# By SQLSTATE or its first two characters (PostgreSQL manual, appendix A).
_BY_STATE: dict[str, Callable[[asyncpg.PostgresError], FleetError]] = {
    "25P04": _too_slow,  # transaction_timeout
    "53400": lambda _: PayloadTooLarge("the statement needs more temporary space than it may use"),
    "28": _denied,
    "08": _away,
    "53": _away,
    "57": _away,
    "58": _away,
}


def _column_of(exc: asyncpg.PostgresError) -> str:
    """Return the column a constraint is about; constraints are named `<table>_<column>[_check]`."""
    constraint = str(getattr(exc, "constraint_name", None) or "value")
    table = str(getattr(exc, "table_name", None) or "")
    return constraint.removeprefix(f"{table}_").removesuffix("_check")


def _clean(text: str | None) -> str:
    """Return `text` on one line and not longer than a caller wants to read."""
    return re.sub(r"\s+", " ", text or "").strip()[:_MESSAGE_CHARS]
