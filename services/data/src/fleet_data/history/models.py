"""Nouns of history: entries of the change log, and what undoing a change set does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

UNLOGGED = frozenset({"id", "version", "created_at", "created_by", "updated_at", "updated_by"})
"""What a row says about its own changes: no part of a difference, and set by the database."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One change of one record; `before` is None when it was made."""

    number: int
    version: int
    changed_at: str
    actor: str
    tool: str | None
    change_set_id: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reversal:
    """One record of a change set, as it was before the set and as it is at present.

    Attributes:
        first: number of the set's first entry about the record: what was before it is put back.
        last: number of the set's last entry about the record: how the set left it.
        made: the set made the record, so it goes.
        was_deleted: the record was deleted before the set.
        version: its version at present; None when it is not there.
        is_deleted: it is deleted at present.
        is_as_left: it is as the set left it, whatever happened and was undone in between.
    """

    object: str
    id: str
    first: int
    last: int
    made: bool
    was_deleted: bool = False
    version: int | None = None
    is_deleted: bool = False
    is_as_left: bool = False

    @property
    def revives(self) -> bool:
        """Return whether the record is deleted now and was not before."""
        return self.is_deleted and not self.made and not self.was_deleted


@dataclass(frozen=True, slots=True)
class Undone:
    """What became of undoing a change set.

    Attributes:
        undone: number of records that are as they were before.
        conflicts: records that were changed since, as `object id`; with any of them nothing is undone.
        change_set_id: the set that the undoing is, which can be undone in its turn; None for a dry run.
    """

    undone: int
    records: Sequence[str]
    conflicts: Sequence[str]
    change_set_id: str | None
    dry_run: bool = False
