"""Believable CRM data from one seed: the same rows, ids included, on every machine and every day.

Names and places come from Faker, everything else from one `random.Random`, so that amounts, stages and dates fit
together: a won deal went through the stages before, a large company has larger deals, a lead's score follows its
status.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from faker import Faker

from fleet_data.demo import phrases
from fleet_data.demo.models import DEFAULT_PIPELINE, DEFAULT_STAGES, Rows
from fleet_data.ids import uuid7

AS_OF = datetime(2026, 11, 20, 17, 0, tzinfo=UTC)
_SEED = 20261120
_BY = "seed"
_OPEN_STAGES = ("new", "qualified", "proposal", "negotiation")
_LINKS = ("contact_id", "company_id", "deal_id", "lead_id", "owner_id")
_MADE = ("created_at", "created_by", "updated_at", "updated_by")


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many records to make; activities, notes and tasks follow from them."""

    users: int = 8
    companies: int = 300
    contacts: int = 2_000
    leads: int = 1_000
    deals: int = 500


@dataclass(frozen=True, slots=True)
class _Company:
    id: UUID
    domain: str
    country: str
    city: str
    employees: int
    owner: UUID


@dataclass(frozen=True, slots=True)
class _Subject:
    """What an activity, a note or a task is about."""

    since: datetime
    until: datetime
    contact: UUID | None = None
    company: UUID | None = None
    deal: UUID | None = None
    lead: UUID | None = None
    owner: UUID | None = None

    def links(self) -> tuple[UUID | None, ...]:
        return (self.contact, self.company, self.deal, self.lead, self.owner)


def generate(sizes: Sizes = Sizes(), *, as_of: datetime = AS_OF) -> list[Rows]:  # noqa: B008 - frozen
    """Return the rows of one tenant, in an order that satisfies the foreign keys."""
    return _Generator(sizes, as_of).rows()


class _Generator:
    """Makes the rows; each method consumes randomness, so their order is part of the result."""

    def __init__(self, sizes: Sizes, as_of: datetime) -> None:
        self._sizes = sizes
        self._as_of = as_of
        self._random = random.Random(_SEED)  # noqa: S311 - demo data, not secrets
        self._fake = Faker("en_US")
        self._fake.seed_instance(_SEED)
        self._subjects: list[_Subject] = []
        self._emails: set[str] = set()

    def rows(self) -> list[Rows]:
        users, user_ids = self._users()
        companies, made = self._companies(user_ids)
        contacts, people = self._contacts(made)
        leads = self._leads(user_ids)
        deals, history = self._deals(made, people)
        return [
            DEFAULT_PIPELINE,
            DEFAULT_STAGES,
            users,
            companies,
            contacts,
            leads,
            deals,
            history,
            self._activities(),
            self._notes(),
            self._tasks(),
        ]

    def _users(self) -> tuple[Rows, list[UUID]]:
        values = []
        for index in range(self._sizes.users):
            first, last = self._fake.first_name(), self._fake.last_name()
            job = "Head of Sales" if index == 0 else "Account Executive"
            made = self._as_of - timedelta(days=900 - index)
            values.append(
                (
                    self._id(made),
                    self._email(first, last, "demo.example"),
                    f"{first} {last}",
                    job,
                    made,
                )
            )
        rows = Rows("users", ("id", "email", "name", "job", "created_at"), values)
        return rows, [row[0] for row in values]

    def _companies(self, owners: Sequence[UUID]) -> tuple[Rows, list[_Company]]:
        values, made, seen = [], [], set[str]()
        while len(made) < self._sizes.companies:
            name = self._fake.company()
            domain = f"{_slug(name)}.example"
            if domain in seen:
                continue
            seen.add(domain)
            country, city = self._place()
            employees = int(self._random.lognormvariate(4.6, 1.4)) + 3
            revenue = Decimal(employees) * self._random.randint(90, 260) * 1000
            born = self._past(60, 800)
            company = _Company(
                self._id(born), domain, country, city, employees, self._random.choice(owners)
            )
            made.append(company)
            values.append(
                (company.id, name, domain, self._random.choice(phrases.INDUSTRIES), employees)
                + (revenue, country, city, f"https://www.{domain}", self._phone())
                + (company.owner, f"{self._fake.catch_phrase()}.", *_made(born))
            )
        columns = (
            *("id", "name", "domain", "industry", "employees", "annual_revenue", "country", "city"),
            *("website", "phone", "owner_id", "description", *_MADE),
        )
        return Rows("companies", columns, values), made

    def _contacts(self, companies: Sequence[_Company]) -> tuple[Rows, dict[UUID, list[UUID]]]:
        values: list[tuple[Any, ...]] = []
        people: dict[UUID, list[UUID]] = {company.id: [] for company in companies}
        weights = [company.employees**0.5 for company in companies]
        extra = self._random.choices(
            companies, weights, k=max(0, self._sizes.contacts - len(companies))
        )
        for company in (*companies, *extra)[: self._sizes.contacts]:
            first, last = self._fake.first_name(), self._fake.last_name()
            born = self._past(20, 700)
            id_ = self._id(born)
            people[company.id].append(id_)
            email = self._email(first, last, company.domain)
            lifecycle = self._weighted(phrases.LIFECYCLES)
            values.append(
                (id_, first, last, email, self._phone(), self._random.choice(phrases.TITLES))
                + (
                    company.id,
                    lifecycle,
                    company.country,
                    company.city,
                    company.owner,
                    *_made(born),
                )
            )
        columns = (
            *(
                "id",
                "first_name",
                "last_name",
                "email",
                "phone",
                "title",
                "company_id",
                "lifecycle",
            ),
            *("country", "city", "owner_id", *_MADE),
        )
        return Rows("contacts", columns, values), people

    def _leads(self, owners: Sequence[UUID]) -> Rows:
        values = []
        for _ in range(self._sizes.leads):
            first, last = self._fake.first_name(), self._fake.last_name()
            company = self._fake.company()
            status = self._weighted(phrases.LEAD_STATUSES)
            low, high = phrases.LEAD_SCORES[status]
            born = self._past(1, 240)
            id_, owner = self._id(born), self._random.choice(owners)
            email = self._email(first, last, f"{_slug(company)}.example")
            self._subjects.append(_Subject(born, self._as_of, lead=id_, owner=owner))
            values.append(
                (id_, f"{first} {last}", email, self._phone(), self._random.choice(phrases.TITLES))
                + (company, self._place()[0], self._weighted(phrases.LEAD_SOURCES), status)
                + (self._random.randint(low, high), owner, *_made(born))
            )
        columns = (
            *(
                "id",
                "name",
                "email",
                "phone",
                "title",
                "company_name",
                "country",
                "source",
                "status",
            ),
            *("score", "owner_id", *_MADE),
        )
        return Rows("leads", columns, values)

    def _deals(
        self, companies: Sequence[_Company], people: dict[UUID, list[UUID]]
    ) -> tuple[Rows, Rows]:
        deals, history = [], []
        for _ in range(self._sizes.deals):
            company = self._random.choice(companies)
            contact = self._random.choice(people[company.id] or [None])
            born = self._past(5, 400)
            id_, path = self._id(born), list(self._path(born))
            stage, entered = path[-1]
            closed = stage in ("won", "lost")
            amount = round(
                Decimal(self._random.lognormvariate(9.3, 0.8) * company.employees**0.2), -2
            )
            close = (
                entered if closed else self._as_of + timedelta(days=self._random.randint(-15, 120))
            )
            product = self._random.choice(phrases.PRODUCTS)
            name = f"{company.domain.split('.')[0].replace('-', ' ').title()}: {product}"
            until = entered if closed else self._as_of
            self._subjects.append(
                _Subject(born, until, contact, company.id, id_, None, company.owner)
            )
            deals.append(
                (
                    id_,
                    name,
                    company.id,
                    contact,
                    "sales",
                    stage,
                    "open",
                    amount,
                    "EUR",
                    close.date(),
                )
                + (entered, company.owner, *_made(born))
            )
            # The last stage is recorded by the trigger on deals.
            history += [(id_, at, "sales", key, _BY) for key, at in path[:-1]]
        columns = (
            *("id", "name", "company_id", "contact_id", "pipeline", "stage", "status", "amount"),
            *("currency", "expected_close", "stage_changed_at", "owner_id", *_MADE),
        )
        past = ("deal_id", "entered_at", "pipeline", "stage", "entered_by")
        return Rows("deals", columns, deals), Rows("deal_stage_history", past, history)

    def _path(self, born: datetime) -> Iterator[tuple[str, datetime]]:
        """Yield the stages of one deal with when it entered them, never later than `as_of`."""
        end = self._random.choices((None, "won", "lost"), (50, 28, 22))[0]
        steps = len(_OPEN_STAGES) if end == "won" else self._random.randint(1, len(_OPEN_STAGES))
        at = born
        for key in (*_OPEN_STAGES[:steps], end):
            if key is None or at > self._as_of:
                return
            yield key, at
            at += timedelta(days=self._random.randint(3, 24), minutes=self._random.randint(0, 480))

    def _activities(self) -> Rows:
        values = []
        for subject in self._subjects:
            for _ in range(self._random.randint(1, 3 if subject.lead else 5)):
                at = self._between(subject)
                kind = self._random.choice(("call", "meeting", "email", "email"))
                topic = self._random.choice(phrases.TOPICS)
                minutes = None if kind == "email" else self._random.choice((15, 30, 45, 60))
                body = self._random.choice(phrases.OUTCOMES)
                values.append(
                    (self._id(at), kind, f"{phrases.VERBS[kind]} {topic}", body, at, minutes)
                    + (*subject.links(), *_made(at))
                )
        columns = (
            "id",
            *("kind", "subject", "body", "occurred_at", "duration_min"),
            *_LINKS,
            *_MADE,
        )
        return Rows("activities", columns, values)

    def _notes(self) -> Rows:
        values = []
        for subject in self._random.sample(self._subjects, len(self._subjects) // 2):
            at = self._between(subject)
            body = f"{self._random.choice(phrases.REMARKS)} {self._random.choice(phrases.OUTCOMES)}"
            values.append((self._id(at), body, *subject.links(), *_made(at)))
        return Rows("notes", ("id", "body", *_LINKS, *_MADE), values)

    def _tasks(self) -> Rows:
        values = []
        for subject in self._random.sample(self._subjects, len(self._subjects) // 2):
            at = self._between(subject)
            due = at + timedelta(days=self._random.randint(1, 21))
            late = due < self._as_of - timedelta(days=10)
            status = self._random.choices(
                ("done", "open", "cancelled"), (85, 8, 7) if late else (20, 78, 2)
            )[0]
            title = f"{self._random.choice(phrases.TODOS)} {self._random.choice(phrases.TOPICS)}"
            priority = self._random.choices(("low", "normal", "high"), (2, 6, 2))[0]
            values.append(
                (self._id(at), title, due, status, priority, *subject.links(), *_made(at))
            )
        columns = ("id", "title", "due_at", "status", "priority", *_LINKS, *_MADE)
        return Rows("tasks", columns, values)

    def _id(self, at: datetime) -> UUID:
        return uuid7(at_ms=int(at.timestamp() * 1000), random_bits=self._random.getrandbits)

    def _email(self, first: str, last: str, domain: str) -> str:
        base = f"{_slug(first)}.{_slug(last)}"
        email, count = f"{base}@{domain}", 1
        while email in self._emails:
            count += 1
            email = f"{base}{count}@{domain}"
        self._emails.add(email)
        return email

    def _phone(self) -> str:
        # 555-01xx is reserved for fiction.
        return f"+1 {self._random.randint(201, 989)} 555 01{self._random.randint(0, 99):02}"

    def _place(self) -> tuple[str, str]:
        country = self._weighted(phrases.COUNTRIES)
        return country, self._random.choice(phrases.CITIES[country])

    def _past(self, least: int, most: int) -> datetime:
        return self._as_of - timedelta(
            days=self._random.randint(least, most), minutes=self._random.randint(0, 480)
        )

    def _between(self, subject: _Subject) -> datetime:
        seconds = max(60, int((subject.until - subject.since).total_seconds()))
        return subject.since + timedelta(seconds=self._random.randrange(seconds))

    def _weighted(self, weights: dict[str, int]) -> str:
        return self._random.choices(list(weights), list(weights.values()))[0]


def _made(at: datetime) -> tuple[datetime, str, datetime, str]:
    return at, _BY, at, _BY


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
