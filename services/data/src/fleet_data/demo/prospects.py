"""What leads did before their status was what it is: visits, meetings, and when they entered each status.

Drawn from a source of its own, after the fact: leads that converted had been busier, so a model has something to find.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from fleet_data.demo import phrases
from fleet_data.demo.chance import Chance
from fleet_data.demo.happenings import Subject, happened
from fleet_data.demo.models import made

_PATHS: dict[str, tuple[str, ...]] = {
    "new": ("new",),
    "working": ("new", "working"),
    "qualified": ("new", "working", "qualified"),
    "unqualified": ("new", "working", "unqualified"),
    "converted": ("new", "working", "qualified", "converted"),
}
# (visits, meetings) expected per lead
_BUSY = {
    "new": (1, 0),
    "working": (2, 1),
    "qualified": (3, 2),
    "unqualified": (0, 0),
    "converted": (4, 3),
}

Record = dict[str, Any]


def status_history(chance: Chance, leads: Sequence[Record]) -> list[Record]:
    """Return when each lead entered the statuses before its present one; `updated_at` becomes the last of them."""
    history = []
    for lead in leads:
        *before, _ = path = _PATHS[lead["status"]]
        room = max((chance.as_of - lead["created_at"]) / len(path), timedelta(minutes=1))
        at = lead["created_at"]
        for status in before:
            history.append(_entered(lead["id"], at, status))
            at += min(timedelta(days=chance.uniform(1, 20)), room)
        lead["updated_at"] = at
    return history


def interest(chance: Chance, leads: Sequence[Record]) -> list[Record]:
    """Return visits of the web site and meetings, before the lead's status last changed."""
    found = []
    for lead in leads:
        until = (
            lead["updated_at"] if lead["status"] in ("converted", "unqualified") else chance.as_of
        )
        links = {"lead_id": lead["id"], "owner_id": lead["owner_id"]}
        subject = Subject(lead["created_at"], until, 0, links)
        for kind, expected in zip(("visit", "meeting"), _BUSY[lead["status"]], strict=True):
            count = min(8, int(chance.expovariate(1 / (expected + 0.3))))
            found += [happened(chance, subject, kind) for _ in range(count)]
    return found


def segments(chance: Chance) -> list[Record]:
    """Return segments to begin with; each is a filter."""
    return [
        {
            "id": chance.id(chance.as_of),
            "name": name,
            "object": of,
            "kind": "filter",
            "filter": condition,
            **made(chance.as_of),
        }
        for name, of, condition in phrases.SEGMENTS
    ]


def consents(chance: Chance, people: Sequence[Record]) -> list[Record]:
    """Return what the owners of addresses agreed to; most were never asked."""
    asked = [p for p in people if chance.random() < 0.4]
    return [
        {
            "id": chance.id(person["created_at"]),
            "address": person["email"],
            "channel": "email",
            "purpose": "marketing",
            "state": chance.weighted(phrases.CONSENTS),
            "source": chance.choice(phrases.CONSENT_SOURCES),
            "decided_at": person["created_at"],
            **made(person["created_at"]),
        }
        for person in asked
    ]


def suppressions(chance: Chance, people: Sequence[Record]) -> list[Record]:
    """Return addresses that must not be written to."""
    return [
        {
            "id": chance.id(person["created_at"]),
            "address": person["email"],
            "channel": "email",
            "reason": chance.weighted(phrases.SUPPRESSIONS),
            **made(person["created_at"]),
        }
        for person in chance.sample(people, len(people) // 25)
    ]


def _entered(lead_id: UUID, at: datetime, status: str) -> Record:
    return {"lead_id": lead_id, "entered_at": at, "status": status, "entered_by": "seed"}
