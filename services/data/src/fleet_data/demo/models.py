"""Nouns of the demo data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows for one table of schema store, without the tenant."""

    table: str
    columns: Sequence[str]
    values: Sequence[Sequence[Any]]


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
