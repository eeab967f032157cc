"""Nouns of the query feature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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
