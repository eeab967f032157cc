"""Nouns of segments: how large one is, and what became of its list of members."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fleet_data.crm.models import Page


@dataclass(frozen=True, slots=True)
class Counts:
    """How many records a filter finds.

    Attributes:
        size: all of them.
        blocked: how many of them marketing may not write to, by reason: no_address, suppressed, no_consent. Of an
            object without mail addresses there is nothing to say.
    """

    size: int
    blocked: Mapping[str, int] | None = None

    @property
    def mailable(self) -> int | None:
        """Return how many may be written to."""
        return None if self.blocked is None else self.size - sum(self.blocked.values())


@dataclass(frozen=True, slots=True)
class Preview:
    """Who would be reached: how many, and some of them."""

    object: str
    counts: Counts
    sample: Page


@dataclass(frozen=True, slots=True)
class Membership:
    """What became of a list of members.

    Attributes:
        changed: how many were added, or removed.
        unchanged: how many were in the list already, or were not in it.
        missing_ids: ids without a record of the segment's kind.
        size: members of the list now.
    """

    changed: int
    unchanged: int
    size: int
    missing_ids: Sequence[str] = field(default_factory=tuple)
    dry_run: bool = False
