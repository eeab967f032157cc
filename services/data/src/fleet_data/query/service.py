"""Checking a caller's SQL for what the database would answer less kindly, and cutting the answer to size."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from pydantic_core import to_json

from fleet_common.errors import InvalidInput, NotFound
from fleet_data.claims import Caller
from fleet_data.query.catalog import like
from fleet_data.query.models import Answer, Detail, Param, Plan, Query
from fleet_data.query.plans import shortened

ANSWER_BYTES = 256 * 1024
_MEMORY_BYTES = 8 * 1024 * 1024  # what the rows of one query may take here before they are cut
_SQL_CHARS = 20_000
_QUOTED = re.compile(r'[",\r\n]')
_RELATIONS = {"names": 500, "columns": 100, "full": 20}


class Runner(Protocol):
    """Where SQL runs."""

    async def run(
        self, caller: Caller, query: Query
    ) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
        """Return the names of the columns and up to `max_rows` + 1 rows, as JSON has values."""

    async def explain(self, caller: Caller, sql: str, params: Sequence[Param]) -> dict[str, Any]:
        """Return PostgreSQL's plan for a statement as JSON has it; nothing is run."""

    async def relations(
        self, caller: Caller, pattern: str, detail: Detail, limit: int
    ) -> tuple[Sequence[str], Sequence[Sequence[Any]]]:
        """Return the columns and up to `limit` rows about what the role may read; `pattern` is of LIKE."""


class Queries:
    """Runs callers' SQL on one database within limits."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    async def run(
        self, caller: Caller, sql: str, params: Sequence[Param] = (), *, max_rows: int = 100
    ) -> Answer:
        """Return the rows of one read-only statement, cut to `max_rows` and 256 kB.

        Raises:
            InvalidInput: the text is empty, too long or not one statement.
            QueryRejected: PostgreSQL refused it; the SQLSTATE says why.
            PermissionDenied: the reader has no right to what it names.
            DeadlineExceeded: it ran longer than it may.
            PayloadTooLarge: one row is larger than a row may be.
        """
        row_bytes = min(ANSWER_BYTES, _MEMORY_BYTES // max_rows)
        query = Query(one_statement(sql), params, max_rows, row_bytes)
        columns, rows = await self._runner.run(caller, query)
        return _cut(columns, rows, max_rows)

    async def explain(self, caller: Caller, sql: str, params: Sequence[Param] = ()) -> Plan:
        """Return how PostgreSQL would run a statement.

        Raises:
            as `run`.
        """
        return shortened(await self._runner.explain(caller, one_statement(sql), params))

    async def relations(
        self, caller: Caller, glob: str | None = None, detail: Detail = "names"
    ) -> Answer:
        """Return the tables and views whose names match, with their columns or more as `detail` asks."""
        limit = _RELATIONS[detail]
        columns, rows = await self._runner.relations(caller, like(glob), detail, limit + 1)
        answer = _cut(columns, rows, limit)
        note = "there is more: narrow `pattern`, or ask for less detail"
        return replace(answer, note=note) if answer.truncated else answer

    async def relation(self, caller: Caller, name: str) -> dict[str, Any]:
        """Return all about one table or view.

        Raises:
            NotFound: there is none of that name, or the role may not read it.
        """
        answer = await self.relations(caller, name.replace("*", ""), "full")
        if not answer.rows:
            raise NotFound("table", name)
        return dict(zip(answer.columns, answer.rows[0], strict=True))


def as_csv(answer: Answer) -> str:
    """Return the answer as CSV with a header line, as PostgreSQL writes it: NULL is nothing, an empty text is `""`."""
    rows = (answer.columns, *answer.rows)
    return "".join(f"{','.join(map(_cell, row))}\n" for row in rows)


def one_statement(sql: str) -> str:
    """Return the statement without the semicolon that people end it with."""
    text = sql.strip().rstrip("; \t\r\n")
    if not text:
        raise InvalidInput("sql is empty")
    if len(text) > _SQL_CHARS:
        raise InvalidInput(f"sql: at most {_SQL_CHARS} characters")
    if "\0" in text:
        raise InvalidInput("sql must not contain a NUL character")
    return text


def _cut(columns: Sequence[str], rows: Sequence[Sequence[Any]], max_rows: int) -> Answer:
    kept: list[Sequence[Any]] = []
    left = ANSWER_BYTES
    for row in rows[:max_rows]:
        left -= len(to_json(row))
        if left < 0:
            note = f"cut at {ANSWER_BYTES // 1024} kB: select fewer columns or aggregate in SQL"
            return Answer(columns, kept, truncated=True, note=note)
        kept.append(row)
    if len(rows) > max_rows:
        note = f"cut at {max_rows} rows: filter, aggregate or page in SQL, or raise max_rows"
        return Answer(columns, kept, truncated=True, note=note)
    return Answer(columns, kept)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else to_json(value).decode()
    if text and not _QUOTED.search(text):
        return text
    return '"' + text.replace('"', '""') + '"'
