from __future__ import annotations

import asyncpg
import pytest

from fleet_common.errors import DeadlineExceeded, PayloadTooLarge, PermissionDenied, Unavailable
from fleet_data.errors import Contended, QueryRejected, from_postgres, translated


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (asyncpg.QueryCanceledError("x"), DeadlineExceeded),
        (asyncpg.DeadlockDetectedError("x"), Contended),
        (asyncpg.SerializationError("x"), Contended),
        (asyncpg.TooManyConnectionsError("x"), Unavailable),
        (asyncpg.AdminShutdownError("x"), Unavailable),
        (asyncpg.CannotConnectNowError("x"), Unavailable),
        (asyncpg.ConfigurationLimitExceededError("x"), PayloadTooLarge),
        (asyncpg.InsufficientPrivilegeError("x"), PermissionDenied),
        (asyncpg.InvalidAuthorizationSpecificationError("x"), PermissionDenied),
        (asyncpg.InvalidCachedStatementError("x"), Unavailable),
        (asyncpg.UndefinedTableError("x"), QueryRejected),
    ],
)
def test_error_of_postgres_becomes_ours(theirs: asyncpg.PostgresError, ours: type) -> None:
    assert isinstance(from_postgres(theirs), ours)


@pytest.mark.parametrize(
    "error", [ConnectionRefusedError(), asyncpg.InterfaceError("closed"), TimeoutError()]
)
def test_lost_connection_is_retryable(error: Exception) -> None:
    with pytest.raises(Unavailable) as caught, translated():
        raise error
    assert caught.value.retryable


def test_message_is_one_line_without_the_row() -> None:
    error = asyncpg.UndefinedColumnError("no\n  such   column")
    error.detail = "Failing row contains (secret)"
    assert str(from_postgres(error)) == "invalid_input: no such column (SQLSTATE 42703)"
