"""A span for every statement, with the name of its operation and nothing else of its text."""

from __future__ import annotations

import re
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import asyncpg

from fleet_common.tracing import ClientSpan, error_type, is_recording

# What a statement may begin with; a caller's own words never become the name of a span.
_OPERATION = re.compile(
    r"\s*(SELECT|INSERT|UPDATE|DELETE|MERGE|WITH|VALUES|TABLE|EXPLAIN|SHOW|COPY|BEGIN|COMMIT|ROLLBACK|SAVEPOINT"
    r"|RELEASE|SET)\b",
    re.IGNORECASE,
)


@contextmanager
def recorded(connection: Any) -> Generator[None]:
    """Record each statement that runs on `connection` inside the block, if this request is recorded.

    Args:
        connection: of asyncpg; as the pool hands it out, for which its stubs have no name.
    """
    if not is_recording():
        yield
        return
    # asyncpg calls back through the event loop, in the context of the statement.
    with connection.query_logger(_record):
        yield


@contextmanager
def recorded_one(sql: str) -> Generator[None]:
    """Record the statement that runs in the block: asyncpg tells nobody of those that were prepared by hand."""
    if not is_recording():
        yield
        return
    began_ns, failure = time.time_ns(), None
    try:
        yield
    except asyncpg.PostgresError as exc:
        failure = exc
        raise
    finally:
        _tell(sql, failure, began_ns)


def _record(query: asyncpg.connection.LoggedQuery) -> None:
    _tell(query.query, query.exception, time.time_ns() - int(query.elapsed * 1e9))


def _tell(sql: str, failure: BaseException | None, began_ns: int) -> None:
    known = _OPERATION.match(sql)
    operation = known[1].upper() if known else "QUERY"
    facts = {"db.system.name": "postgresql", "db.operation.name": operation}
    state = getattr(failure, "sqlstate", None)
    if state is not None:
        facts["db.response.status_code"] = state
    with ClientSpan(operation, lambda: facts, began_ns=began_ns) as span:
        if failure is not None:
            span.failed(state or error_type(failure))
