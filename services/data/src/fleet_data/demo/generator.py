"""Believable CRM data: what belongs together fits together.

A won deal went through the stages before it, a large company has larger deals, a lead's score follows its status,
and nothing happens before the record it is about was made.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from fleet_data.demo import phrases, prospects
from fleet_data.demo.chance import Chance, slug
from fleet_data.demo.happenings import Subject, activities, notes, tasks
from fleet_data.demo.models import DEFAULT_PIPELINE, DEFAULT_STAGES, Rows, made

AS_OF = datetime(2026, 11, 20, 17, 0, tzinfo=UTC)
"""The day the demo data is of; fixed, so that it is the same everywhere."""
_SECOND_SEED = 20261121
_OPEN_STAGES = ("new", "qualified", "proposal", "negotiation")

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many records to make; activities, notes and tasks follow from them."""

    users: int = 8
    companies: int = 300
    contacts: int = 2_000
    leads: int = 1_000
    deals: int = 500


def generate(sizes: Sizes = Sizes(), *, as_of: datetime = AS_OF) -> list[Rows]:
    """Return the rows of one tenant, in an order that satisfies the foreign keys."""
    # Every step draws from the same source, so their order is part of the result.
    chance = Chance(as_of)
    users = _users(chance, sizes.users)
    companies = _companies(chance, sizes.companies, [user["id"] for user in users])
    contacts = _contacts(chance, sizes.contacts, companies)
    leads = _leads(chance, sizes.leads, [user["id"] for user in users])
    deals, history = _deals(chance, sizes.deals, companies, contacts)
    # A second source: what is added here leaves the records above as they were.
    later = Chance(as_of, seed=_SECOND_SEED)
    statuses = prospects.status_history(later, leads)
    subjects = [*_about_leads(leads, as_of), *_about_deals(deals, as_of)]
    return [
        DEFAULT_PIPELINE,
        DEFAULT_STAGES,
        Rows.of("users", users),
        Rows.of("properties", _properties(chance)),
        Rows.of("companies", companies),
        Rows.of("contacts", contacts),
        Rows.of("leads", leads),
        Rows.of("lead_status_history", statuses),
        Rows.of("deals", deals),
        Rows.of("deal_stage_history", history),
        Rows.of("activities", [*activities(chance, subjects), *prospects.interest(later, leads)]),
        Rows.of("notes", notes(chance, subjects)),
        Rows.of("tasks", tasks(chance, subjects)),
        Rows.of("segments", prospects.segments(later)),
        Rows.of("consents", prospects.consents(later, [*contacts, *leads])),
        Rows.of("suppressions", prospects.suppressions(later, [*contacts, *leads])),
    ]


def _properties(chance: Chance) -> list[Record]:
    """Return the fields that this tenant added to the CRM's own."""
    born = chance.as_of - timedelta(days=899)
    named = (
        ("company", "x_tier", "enum", "gold, silver, bronze", "How closely we look after it."),
        ("contact", "x_language", "text", None, "Language for letters."),
        ("deal", "x_competitor", "text", None, "Who else is in the race."),
    )
    keys = ("object", "name", "kind", "choices", "about")
    return [
        {"id": chance.id(born), **dict(zip(keys, values, strict=True)), **made(born)}
        for values in named
    ]


def _users(chance: Chance, count: int) -> list[Record]:
    users = []
    for index in range(count):
        first, last = chance.name()
        joined = chance.as_of - timedelta(days=900 - index)
        users.append(
            {
                "id": chance.id(joined),
                "email": chance.email(first, last, "demo.example"),
                "name": f"{first} {last}",
                "job": "Head of Sales" if index == 0 else "Account Executive",
                "created_at": joined,
            }
        )
    return users


def _companies(chance: Chance, count: int, owners: Sequence[UUID]) -> list[Record]:
    companies: dict[str, Record] = {}
    while len(companies) < count:
        name = chance.company()
        domain = f"{slug(name)}.example"
        if domain not in companies:
            companies[domain] = _company(chance, name, domain, chance.choice(owners))
    return list(companies.values())


def _company(chance: Chance, name: str, domain: str, owner: UUID) -> Record:
    born = chance.past(60, 800)
    country, city = chance.place()
    employees = int(chance.lognormvariate(4.6, 1.4)) + 3
    return {
        "id": chance.id(born),
        "name": name,
        "domain": domain,
        "industry": chance.choice(phrases.INDUSTRIES),
        "employees": employees,
        "annual_revenue": Decimal(employees) * chance.randint(90, 260) * 1000,
        "country": country,
        "city": city,
        "website": f"https://www.{domain}",
        "phone": chance.phone(),
        "owner_id": owner,
        "description": chance.slogan(),
        "props": json.dumps({"x_tier": _tier(employees)}),
        **made(born),
    }


def _tier(employees: int) -> str:
    return "gold" if employees > 400 else "silver" if employees > 100 else "bronze"


def _contacts(chance: Chance, count: int, companies: Sequence[Record]) -> list[Record]:
    """Return at least one contact per company, more at the larger ones."""
    weights = [company["employees"] ** 0.5 for company in companies]
    more = chance.choices(companies, weights, k=max(0, count - len(companies)))
    return [_contact(chance, company) for company in (*companies, *more)[:count]]


def _contact(chance: Chance, company: Record) -> Record:
    born = chance.past(20, 700)
    first, last = chance.name()
    return {
        "id": chance.id(born),
        "first_name": first,
        "last_name": last,
        "email": chance.email(first, last, company["domain"]),
        "phone": chance.phone(),
        "title": chance.choice(phrases.TITLES),
        "company_id": company["id"],
        "lifecycle": chance.weighted(phrases.LIFECYCLES),
        "country": company["country"],
        "city": company["city"],
        "owner_id": company["owner_id"],
        **made(born),
    }


def _leads(chance: Chance, count: int, owners: Sequence[UUID]) -> list[Record]:
    leads = []
    for _ in range(count):
        born = chance.past(1, 240)
        first, last = chance.name()
        company = chance.company()
        status = chance.weighted(phrases.LEAD_STATUSES)
        leads.append(
            {
                "id": chance.id(born),
                "name": f"{first} {last}",
                "email": chance.email(first, last, f"{slug(company)}.example"),
                "phone": chance.phone(),
                "title": chance.choice(phrases.TITLES),
                "company_name": company,
                "country": chance.place()[0],
                "source": chance.weighted(phrases.LEAD_SOURCES),
                "status": status,
                "score": chance.randint(*phrases.LEAD_SCORES[status]),
                "owner_id": chance.choice(owners),
                **made(born),
            }
        )
    return leads


def _deals(
    chance: Chance, count: int, companies: Sequence[Record], contacts: Sequence[Record]
) -> tuple[list[Record], list[Record]]:
    """Return the deals, and the stages they went through before the present one."""
    people: dict[UUID, list[UUID]] = {}
    for contact in contacts:
        people.setdefault(contact["company_id"], []).append(contact["id"])
    deals, history = [], []
    for _ in range(count):
        company = chance.choice(companies)
        born = chance.past(5, 400)
        path = list(_path(chance, born))
        deal = _deal(
            chance, company, chance.choice(people.get(company["id"], [None])), born, path[-1]
        )
        deals.append(deal)
        history += [
            {
                "deal_id": deal["id"],
                "entered_at": at,
                "pipeline": "sales",
                "stage": stage,
                "entered_by": deal["created_by"],
            }
            for stage, at in path[:-1]  # a trigger on deals records the last
        ]
    return deals, history


def _path(chance: Chance, born: datetime) -> Iterator[tuple[str, datetime]]:
    """Yield the stages of one deal with when it entered them, never later than the day of the data."""
    end = chance.choices((None, "won", "lost"), (50, 28, 22))[0]
    steps = len(_OPEN_STAGES) if end == "won" else chance.randint(1, len(_OPEN_STAGES))
    at = born
    for stage in (*_OPEN_STAGES[:steps], end):
        if stage is None or at > chance.as_of:
            return
        yield stage, at
        at += timedelta(days=chance.randint(3, 24), minutes=chance.randint(0, 480))


def _deal(
    chance: Chance,
    company: Record,
    contact: UUID | None,
    born: datetime,
    reached: tuple[str, datetime],
) -> Record:
    stage, entered = reached
    is_closed = stage in ("won", "lost")
    close = entered if is_closed else chance.as_of + timedelta(days=chance.randint(-15, 120))
    amount = Decimal(chance.lognormvariate(9.3, 0.8) * company["employees"] ** 0.2)
    return {
        "id": chance.id(born),
        "name": f"{company['name']}: {chance.choice(phrases.PRODUCTS)}",
        "company_id": company["id"],
        "contact_id": contact,
        "pipeline": "sales",
        "stage": stage,
        "status": "open",  # a trigger sets it from the stage
        "amount": round(amount, -2),
        "currency": "EUR",
        "expected_close": close.date(),
        "stage_changed_at": entered,
        "owner_id": company["owner_id"],
        **made(born),
    }


def _about_leads(leads: Sequence[Record], as_of: datetime) -> list[Subject]:
    return [
        Subject(lead["created_at"], as_of, 3, {"lead_id": lead["id"], "owner_id": lead["owner_id"]})
        for lead in leads
    ]


def _about_deals(deals: Sequence[Record], as_of: datetime) -> list[Subject]:
    subjects = []
    for deal in deals:
        links = {name: deal[name] for name in ("contact_id", "company_id", "owner_id")}
        until = deal["stage_changed_at"] if deal["stage"] in ("won", "lost") else as_of
        subjects.append(Subject(deal["created_at"], until, 5, {**links, "deal_id": deal["id"]}))
    return subjects
