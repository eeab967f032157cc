"""Reasons in words: the groups of features that moved a score most, and the rest as one number."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fleet_data.scoring.models import Facts, Score

_DIGITS = 3


@dataclass(frozen=True, slots=True)
class Group:
    """Features that are one reason.

    Attributes:
        reads: the fields that it comes from; whoever may not see one of them is not told the reason.
        say: the reason in words.
    """

    reads: tuple[str, ...]
    say: Callable[[Facts], str]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a score is what it is; `base`, `reasons` and `other` add up to `logit`, as shown.

    Attributes:
        base: logit of the usual lead.
        reasons: in words, each with what it adds to the logit; the weightiest first.
        other: what all other reasons add together.
    """

    logit: float
    base: float
    reasons: tuple[tuple[str, float], ...]
    other: float


def explain(
    score: Score, *, bias: float, most: int, masks: frozenset[str] = frozenset()
) -> Explanation:
    """Return the `most` weightiest reasons; masked ones are part of `other`."""
    ranked = sorted(score.contributions.items(), key=lambda item: -abs(item[1]))
    told = [(name, points) for name, points in ranked if _may_see(name, masks)][:most]
    reasons = tuple(
        (GROUPS[name].say(score.facts), round(points, _DIGITS)) for name, points in told
    )
    logit, base = round(score.logit, _DIGITS), round(bias, _DIGITS)
    other = round(logit - base - sum(points for _, points in reasons), _DIGITS)
    return Explanation(logit, base, reasons, other)


def _may_see(name: str, masks: frozenset[str]) -> bool:
    return name in GROUPS and not any(
        field in masks or field.partition(".")[2] in masks for field in GROUPS[name].reads
    )


def _trait(name: str, words: str) -> Callable[[Facts], str]:
    return lambda facts: f"{words}: {facts.traits.get(name, 'not known')}"


def _events(group: str, one: str, many: str) -> Callable[[Facts], str]:
    def say(facts: Facts) -> str:
        count = int(facts.amounts.get(f"{group}.count", 0))
        if not count:
            return f"no {one} so far"
        days = facts.amounts.get(f"{group}.days")
        when = "" if days is None else f", the last {_ago(days)}"
        return f"{count} {one if count == 1 else many}{when}"

    return say


def _ago(days: float) -> str:
    return "today" if days < 1 else f"{_days(days)} ago"


def _days(days: float) -> str:
    return f"{int(days)} day{'' if int(days) == 1 else 's'}"


_ACTIVITY = ("activity.kind", "activity.occurred_at")

GROUPS: Mapping[str, Group] = {
    "source": Group(("lead.source",), _trait("source", "source")),
    "seniority": Group(("lead.title",), _trait("seniority", "rank of the job title")),
    "country": Group(("lead.country",), _trait("country", "country")),
    "industry": Group(("lead.email", "company.industry"), _trait("industry", "industry")),
    "size": Group(("lead.email", "company.employees"), _trait("size", "employees")),
    "mail": Group(("lead.email",), _trait("mail", "mail address")),
    "phone": Group(
        ("lead.phone",),
        lambda facts: (
            "phone number known" if facts.amounts.get("phone.known") else "no phone number"
        ),
    ),
    "status": Group(
        ("lead.status",),
        lambda facts: f"{facts.traits['status']} for {_days(facts.amounts['status.days'])}",
    ),
    "age": Group(("lead.created_at",), lambda facts: f"{_days(facts.amounts['age.days'])} old"),
    "calls": Group(_ACTIVITY, _events("calls", "call", "calls")),
    "meetings": Group(_ACTIVITY, _events("meetings", "meeting", "meetings")),
    "emails": Group(_ACTIVITY, _events("emails", "mail", "mails")),
    "visits": Group(_ACTIVITY, _events("visits", "visit", "visits")),
    "recent": Group(
        _ACTIVITY,
        lambda facts: f"{int(facts.amounts['recent.count'])} activities in the last 7 days",
    ),
    "notes": Group(("note.lead_id",), _events("notes", "note", "notes")),
    "tasks": Group(("task.lead_id",), _events("tasks", "task", "tasks")),
}
"""Every group that a model may have, by name."""
