"""Nouns of campaigns: letters, who they reach, and how far a campaign has come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from fleet_data.mail.mailer import Route

State = Literal["draft", "sending", "paused", "done", "cancelled"]
Action = Literal["pause", "resume", "cancel"]

OPEN: tuple[State, ...] = ("sending", "paused")


@dataclass(frozen=True, slots=True)
class Letter:
    """What is sent, as templates; `html` None sends plain text alone."""

    subject: str
    body: str
    html: str | None = None


@dataclass(frozen=True, slots=True)
class Campaign:
    """One campaign as it is in the database."""

    id: UUID
    version: int
    name: str
    segment_id: UUID
    from_name: str
    letter: Letter
    state: State
    note: str | None = None
    route: Route | None = None
    max_per_minute: int | None = None
    send_at: str | None = None
    launched_by: str | None = None


@dataclass(frozen=True, slots=True)
class Draft:
    """A campaign as its author wants it."""

    name: str
    segment_id: UUID
    from_name: str
    letter: Letter
    send_at: str | None = None


@dataclass(frozen=True, slots=True)
class Audience:
    """How many a campaign would reach, and how many of its segment it would not.

    Attributes:
        size: contacts in the segment.
        blocked: how many may not be written to, by reason: no_address, suppressed, no_consent.
        lacking: how many of the rest have no value for a variable that the letter uses without a default.
    """

    size: int
    blocked: Mapping[str, int]
    lacking: Mapping[str, int]

    @property
    def reached(self) -> int:
        """Return how many it would reach."""
        return self.size - sum(self.blocked.values())


@dataclass(frozen=True, slots=True)
class Claimed:
    """One recipient whose mail this worker sends now.

    Attributes:
        facts: what the letter may say of the recipient, by variable.
        attempts: this one included.
        ticket: of an earlier attempt.
    """

    id: UUID
    email: str
    facts: Mapping[str, str | None]
    attempts: int
    ticket: str | None


@dataclass(frozen=True, slots=True)
class Stats:
    """How far a campaign has come."""

    id: str
    name: str
    state: State
    version: int
    note: str | None
    recipients: int
    counts: Mapping[str, int]
    sent_per_minute: float
