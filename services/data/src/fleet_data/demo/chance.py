"""One source of chance for all demo data, so that the same seed gives the same rows, ids included."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from uuid import UUID

from faker import Faker

from fleet_data.demo import phrases
from fleet_data.ids import uuid7

_SEED = 20261120


class Chance(random.Random):
    """A seeded `random.Random` that also knows names, places, ids and days before `as_of`."""

    def __init__(self, as_of: datetime, seed: int = _SEED) -> None:
        super().__init__(seed)
        self.as_of = as_of
        self._fake = Faker("en_US")
        self._fake.seed_instance(seed)
        self._emails: set[str] = set()

    def id(self, at: datetime) -> UUID:
        """Return an id as a record made at that moment would have."""
        return uuid7(at_ms=int(at.timestamp() * 1000), random_bits=self.getrandbits)

    def name(self) -> tuple[str, str]:
        """Return a given and a family name."""
        return self._fake.first_name(), self._fake.last_name()

    def company(self) -> str:
        """Return the name of a company; names repeat."""
        return str(self._fake.company())

    def slogan(self) -> str:
        """Return what a company says it does."""
        return f"{self._fake.catch_phrase()}."

    def email(self, first: str, last: str, domain: str) -> str:
        """Return a mail address that was not given out before."""
        base = f"{slug(first)}.{slug(last)}"
        email, count = f"{base}@{domain}", 1
        while email in self._emails:
            count += 1
            email = f"{base}{count}@{domain}"
        self._emails.add(email)
        return email

    def phone(self) -> str:
        """Return a phone number; 555 01xx is reserved for fiction."""
        return f"+1 {self.randint(201, 989)} 555 01{self.randint(0, 99):02}"

    def place(self) -> tuple[str, str]:
        """Return a country and a city of it."""
        country = self.weighted(phrases.COUNTRIES)
        return country, self.choice(phrases.CITIES[country])

    def past(self, least: int, most: int) -> datetime:
        """Return a moment between `least` and `most` days ago."""
        return self.as_of - timedelta(days=self.randint(least, most), minutes=self.randint(0, 480))

    def between(self, since: datetime, until: datetime) -> datetime:
        """Return a moment in a period, which may be empty."""
        return since + timedelta(
            seconds=self.randrange(max(60, int((until - since).total_seconds())))
        )

    def weighted(self, weights: Mapping[str, int]) -> str:
        """Return one of the keys, the heavier the likelier."""
        return self.choices(list(weights), list(weights.values()))[0]


def slug(name: str) -> str:
    """Return a name as it appears in a domain."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
