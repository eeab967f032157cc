"""What happened around leads and deals: activities, notes and tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from fleet_data.demo import phrases
from fleet_data.demo.chance import Chance
from fleet_data.demo.models import made

_NO_LINKS: Mapping[str, UUID | None] = dict.fromkeys(
    ("contact_id", "company_id", "deal_id", "lead_id", "owner_id")
)


@dataclass(frozen=True, slots=True)
class Subject:
    """What something can be about.

    Attributes:
        since: nothing happened earlier.
        until: nothing happened later.
        most: activities at most.
        links: the records to link to.
    """

    since: datetime
    until: datetime
    most: int
    links: Mapping[str, UUID | None]


def activities(chance: Chance, subjects: Sequence[Subject]) -> list[dict[str, Any]]:
    """Return one or more calls, meetings or mails for every subject."""
    return [
        happened(chance, subject, chance.choice(("call", "meeting", "email", "email")))
        for subject in subjects
        for _ in range(chance.randint(1, subject.most))
    ]


def notes(chance: Chance, subjects: Sequence[Subject]) -> list[dict[str, Any]]:
    """Return a note for every other subject."""
    written = []
    for subject in chance.sample(subjects, len(subjects) // 2):
        body = f"{chance.choice(phrases.REMARKS)} {chance.choice(phrases.OUTCOMES)}"
        written.append(_record(chance, subject, body=body))
    return written


def tasks(chance: Chance, subjects: Sequence[Subject]) -> list[dict[str, Any]]:
    """Return a task for every other subject; most of those long due are done."""
    return [_task(chance, subject) for subject in chance.sample(subjects, len(subjects) // 2)]


def happened(chance: Chance, subject: Subject, kind: str) -> dict[str, Any]:
    """Return one activity of a kind."""
    activity = _record(
        chance,
        subject,
        kind=kind,
        subject=f"{phrases.VERBS[kind]} {chance.choice(phrases.TOPICS)}",
        body=chance.choice(phrases.OUTCOMES),
        duration_min=None if kind == "email" else chance.choice((15, 30, 45, 60)),
    )
    return {**activity, "occurred_at": activity["created_at"]}


def _task(chance: Chance, subject: Subject) -> dict[str, Any]:
    task = _record(
        chance,
        subject,
        title=f"{chance.choice(phrases.TODOS)} {chance.choice(phrases.TOPICS)}",
        priority=chance.weighted({"low": 2, "normal": 6, "high": 2}),
    )
    due = task["created_at"] + timedelta(days=chance.randint(1, 21))
    is_past = due < chance.as_of - timedelta(days=10)
    odds = phrases.PAST_TASKS if is_past else phrases.PRESENT_TASKS
    return {**task, "due_at": due, "status": chance.weighted(odds)}


def _record(chance: Chance, about: Subject, /, **values: Any) -> dict[str, Any]:
    at = chance.between(about.since, about.until)
    return {"id": chance.id(at), **values, **_NO_LINKS, **about.links, **made(at)}
