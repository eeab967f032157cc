"""From facts to numbers, and from numbers to a score: all that serving needs, in plain Python."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from fleet_data.scoring.models import Facts, LeadModel, Score

_SENIORITY = (
    (
        "executive",
        re.compile(r"\b(chief|c[efotimr]o|founder|owner|president|partner)\b", re.IGNORECASE),
    ),
    ("head", re.compile(r"\b(head|director|vp|svp|evp|vice president|lead)\b", re.IGNORECASE)),
    ("manager", re.compile(r"\b(manager|supervisor|coordinator)\b", re.IGNORECASE)),
)
_VICE = re.compile(r"\bvice[- ]president\b", re.IGNORECASE)
_FREE_MAIL = frozenset(
    {
        *("gmail.com", "googlemail.com", "outlook.com", "hotmail.com", "live.com", "yahoo.com"),
        *("icloud.com", "me.com", "aol.com", "gmx.de", "gmx.net", "web.de", "proton.me", "mail.ru"),
    }
)
_SIZES = ((10, "1 to 9"), (50, "10 to 49"), (250, "50 to 249"), (1000, "250 to 999"))
_KINDS = ("calls", "meetings", "emails", "visits")
_COUNTS = ("recent", "notes", "tasks")


def facts_of(row: Mapping[str, Any]) -> Facts:
    """Return the facts in a row of `repository.FACTS`."""
    age = max(0.0, row["age_days"])
    amounts = {"age.days": age, "phone.known": float(row["has_phone"])}
    for kind in _KINDS:
        last = row[f"{kind}_days"]
        amounts[f"{kind}.count"] = row[kind]
        # Silence counts from the beginning where nothing ever happened.
        amounts[f"{kind}.days"] = age if last is None else max(0.0, last)
    amounts |= {f"{name}.count": row[name] for name in _COUNTS}
    amounts["status.days"] = age if row["status_days"] is None else max(0.0, row["status_days"])
    traits = {
        "source": row["source"],
        "seniority": seniority(row["title"]),
        "country": row["country"],
        "industry": row["industry"],
        "size": size(row["employees"]),
        "mail": mail_kind(row["mail_domain"]),
        "status": row["status"],
    }
    return Facts(row["id"], {k: v for k, v in traits.items() if v}, amounts)


def vector(facts: Facts) -> dict[str, float]:
    """Return the value of every feature that is not 0."""
    traits = {f"{group}={value}": 1.0 for group, value in facts.traits.items()}
    # The first call says more than the eleventh, the first day of silence more than the fortieth.
    amounts = {name: math.log1p(amount) for name, amount in facts.amounts.items()}
    return {**traits, **amounts}


def score(model: LeadModel, facts: Facts) -> Score:
    """Return the score: `bias` and contributions add up to its logit."""
    values = vector(facts)
    contributions: dict[str, float] = defaultdict(float)
    for each in model.weights:
        contributions[each.group] += each.weight * (values.get(each.name, 0.0) - each.mean)
    logit = math.fsum((model.bias, *contributions.values()))
    return Score(facts, logit, dict(contributions))


def seniority(title: str | None) -> str | None:
    """Return how high a job title ranks; None without a title."""
    if not title or not title.strip():
        return None
    if _VICE.search(title):
        return "head"
    return next((rank for rank, words in _SENIORITY if words.search(title)), "specialist")


def size(employees: int | None) -> str | None:
    """Return the size class of a company."""
    if employees is None:
        return None
    return next((label for most, label in _SIZES if employees < most), "1000 or more")


def mail_kind(domain: str | None) -> str | None:
    """Return whether a mail address is of a company or of a free provider; None without one."""
    if not domain:
        return None
    return "free" if domain in _FREE_MAIL else "business"
