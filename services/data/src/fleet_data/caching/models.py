"""Nouns of the cache."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Looked:
    """Whether crm_get of these records would be answered from the cache, and for how much longer."""

    is_kept: bool
    kept_for_s: float | None


@dataclass(frozen=True, slots=True)
class Stats:
    """How the cache does since this process started.

    Attributes:
        is_used: answers are kept now; False while Redis or the database's notifications are away.
        hits: answers from the cache.
        misses: answers that the database had to give.
        epochs: changes seen so far, by object.
    """

    is_used: bool
    hits: int
    misses: int
    epochs: dict[str, int]


@dataclass(frozen=True, slots=True)
class Invalidated:
    """Whose answers nobody gets any more."""

    objects: list[str]
