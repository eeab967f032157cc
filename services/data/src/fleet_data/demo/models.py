"""Nouns of the demo data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows for one table of schema store, without the tenant."""

    table: str
    columns: Sequence[str]
    values: Sequence[Sequence[Any]]

    @classmethod
    def of(cls, table: str, records: Sequence[Mapping[str, Any]]) -> Rows:
        """Return the rows of records that all have the same keys."""
        return cls(table, tuple(records[0]), [tuple(record.values()) for record in records])


def made(at: datetime) -> dict[str, Any]:
    """Return who made a demo record and when."""
    return {"created_at": at, "created_by": "seed", "updated_at": at, "updated_by": "seed"}


@dataclass(frozen=True, slots=True)
class Seeded:
    """What seeding did: rows by table, empty when the tenant was seeded before."""

    rows: dict[str, int]


DEFAULT_PIPELINE = Rows("pipelines", ("key", "name"), [("sales", "Sales")])
DEFAULT_STAGES = Rows(
    "stages",
    ("pipeline", "key", "name", "position", "kind", "probability"),
    [
        ("sales", "new", "New", 1, "open", 10),
        ("sales", "qualified", "Qualified", 2, "open", 25),
        ("sales", "proposal", "Proposal sent", 3, "open", 50),
        ("sales", "negotiation", "Negotiation", 4, "open", 75),
        ("sales", "won", "Won", 5, "won", 100),
        ("sales", "lost", "Lost", 6, "lost", 0),
    ],
)
