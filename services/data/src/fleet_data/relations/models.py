"""Nouns of relations: links, merges and pairs that look alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

from fleet_data.crm.models import ObjectName

MergeableName = Literal["contact", "company", "lead"]


@dataclass(frozen=True, slots=True)
class Link:
    """An edge from one record to another, such as contact –decision_maker→ deal."""

    from_object: ObjectName
    from_id: UUID
    type: str
    to_object: ObjectName
    to_id: UUID


@dataclass(frozen=True, slots=True)
class Linked:
    """What became of crm_link; `change_set_id` is None when nothing changed."""

    outcome: Literal["created", "removed", "unchanged"]
    change_set_id: str | None
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Merging:
    """One call of crm_merge: the losers become the winner."""

    name: MergeableName
    winner: UUID
    losers: Sequence[UUID]


@dataclass(frozen=True, slots=True)
class Merged:
    """What became of a merge.

    Attributes:
        fields: what the winner gets from a loser: field → [value, id of the loser].
        moved: number of records that point at the winner instead of a loser, by object and field.
    """

    winner: str
    losers: Sequence[str]
    fields: Mapping[str, Sequence[Any]]
    moved: Mapping[str, int]
    change_set_id: str | None
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Pair:
    """Two records that may be the same: how alike their names are, 0 to 1, and what they share."""

    ids: tuple[str, str]
    labels: tuple[str, str]
    likeness: float
    shared: Sequence[str] = field(default_factory=tuple)
