"""Nouns of the query feature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Param = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Query:
    """One statement of a caller.

    Attributes:
        sql: a single SELECT, WITH, VALUES or TABLE.
        params: values for `$1`, `$2`, …
        max_rows: rows to return at most.
        row_bytes: bytes a row may have in the server's memory; a larger one ends the query.
    """

    sql: str
    params: Sequence[Param]
    max_rows: int
    row_bytes: int


@dataclass(frozen=True, slots=True)
class Answer:
    """Rows as JSON has them.

    Attributes:
        columns: names; not necessarily unique.
        rows: values in the order of `columns`.
        truncated: there is more, by rows or by bytes.
        note: how to narrow the question, when truncated.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    truncated: bool = False
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """How PostgreSQL would run a statement, without having run it.

    Attributes:
        steps: one line per node, indented; the first is the last to finish.
        rows: estimate of the rows it returns.
        cost: estimate in PostgreSQL's own unit.
        hints: what would make it cheaper.
    """

    steps: Sequence[str]
    rows: int
    cost: int
    hints: Sequence[str]


Detail = Literal["names", "columns", "full"]
"""How much of each relation: its name; with columns; with comments, keys and indexes as well."""
