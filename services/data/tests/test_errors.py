from __future__ import annotations

import asyncpg
import pytest

from fleet_common.errors import (
    DeadlineExceeded,
    FleetError,
    PayloadTooLarge,
    PermissionDenied,
    Unavailable,
)
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
    ("theirs", "ours"),
    [
        (ConnectionRefusedError(), Unavailable),
        (asyncpg.InterfaceError("closed"), Unavailable),
        (TimeoutError(), DeadlineExceeded),
    ],
)
def test_a_database_that_does_not_answer_is_retryable(
    theirs: Exception, ours: type[FleetError]
) -> None:
    with pytest.raises(ours) as caught, translated():
        raise theirs
    assert caught.value.retryable


def test_message_is_one_line_without_the_row() -> None:
    error = asyncpg.UndefinedColumnError("no\n  such   column")
    error.detail = "Failing row contains (secret)"
    assert str(from_postgres(error)) == "invalid_input: no such column (SQLSTATE 42703)"
