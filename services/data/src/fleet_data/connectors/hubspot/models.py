"""Nouns of the sync: records as HubSpot has them, what they are here, and what became of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import UUID

from fleet_data.crm.models import Scalar

SOURCE = "hubspot"
BATCH = 100
"""Most records of one call: HubSpot takes no more."""

Synced = Literal["company", "contact", "deal"]
Direction = Literal["both", "pull", "push"]
Winner = Literal["hubspot", "crm"]
CustomFields = dict[Synced, dict[str, str]]
"""Names of HubSpot's properties by object and our custom property."""
IssueKind = Literal["conflict", "refused", "unmapped", "duplicate", "deleted_here", "deleted_there"]
RunState = Literal["queued", "done", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class Remote:
    """A record as HubSpot has it now.

    Attributes:
        modified_ms: when it last changed there, in Unix milliseconds.
        values: what we understand of it, by the names of our fields.
        unread: values of HubSpot that are none of ours, by the names of our fields.
        links: ids of the records it is linked to there, by our field; the one that counts comes first.
        record_id: our id, when we made it there.
    """

    id: str
    modified_ms: int
    values: Mapping[str, Scalar]
    unread: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, Sequence[str]] = field(default_factory=dict)
    record_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Ref:
    """Which record of ours a record of HubSpot's is.

    Attributes:
        base: the values HubSpot had when both last met.
        version: of our record when nothing of it was left to tell HubSpot; 0 while something is.
    """

    external_id: str
    record_id: UUID
    base: Mapping[str, Scalar]
    version: int
    modified_ms: int
    state: str = "live"


@dataclass(frozen=True, slots=True)
class Clash:
    """One field that was changed on both sides."""

    base: Scalar
    crm: Scalar
    hubspot: Scalar


@dataclass(frozen=True, slots=True)
class Issue:
    """Something that somebody should look at, about one record."""

    object: Synced
    kind: IssueKind
    message: str
    external_id: str | None = None
    record_id: UUID | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)
    winner: Winner | None = None


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record of ours of which HubSpot does not know something.

    Attributes:
        external_id: None when HubSpot has no such record.
        version: of the record that the values are from.
        values: what to tell, by the names of our fields; links as ids of ours.
        base: what HubSpot has by now.
    """

    record_id: UUID
    external_id: str | None
    version: int
    values: Mapping[str, Scalar]
    base: Mapping[str, Scalar]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A record of ours that changed since HubSpot was told."""

    record_id: UUID
    updated_at: str
    external_id: str | None
    is_deleted: bool


@dataclass(slots=True)
class Tally:
    """What became of a batch."""

    counts: Counter[str] = field(default_factory=Counter)
    issues: list[Issue] = field(default_factory=list)
    outgoing: list[Outgoing] = field(default_factory=list)

    def report(self, issue: Issue) -> None:
        """Note something that somebody should look at."""
        self.issues.append(issue)
        self.counts["conflicts" if issue.kind == "conflict" else "issues"] += 1


@dataclass(frozen=True, slots=True)
class Position:
    """How far a run is: the number of its step, and where the next batch of that step begins."""

    step: int = 0
    at: str | None = None
    after: str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """What a run is to do.

    Attributes:
        since: look again at everything that changed since then (ISO 8601), not only since the last run.
    """

    direction: Direction = "both"
    since: str | None = None
    apply_deletes: bool = False


@dataclass(frozen=True, slots=True)
class Run:
    """One sync of a tenant."""

    id: UUID
    request: Request
    state: RunState
    position: Position
    started_ms: int
    counts: Mapping[str, int] = field(default_factory=dict)
    error: str | None = None

    def counted(self, more: Mapping[str, int]) -> dict[str, int]:
        """Return the counts with those of one more batch."""
        return dict(Counter(self.counts) + Counter(more))  # a sum of counters drops zeros
