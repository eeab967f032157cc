"""Nouns of the schema feature: migrations, logins, and what a migration run found."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from urllib.parse import unquote, urlsplit

OWNER, WRITER, READER = "crm_migrator", "crm_writer", "crm_reader"
MASKED = "crm_masked"
"""What the reader becomes for SQL of a caller from whom fields are masked; it never logs in."""

_FILE_NAME = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")


@dataclass(frozen=True, slots=True)
class Migration:
    """One forward-only SQL file."""

    number: int
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        """Return the checksum that must not change once the file is applied."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Login:
    """A role that the service logs in as, and its password; never shown."""

    role: str
    password: str = field(repr=False)

    @classmethod
    def of_url(cls, url: str) -> Login | None:
        """Return the user and password of a DSN, or None when it names none."""
        parts = urlsplit(url)
        if not parts.username or not parts.password:
            return None
        return cls(unquote(parts.username), unquote(parts.password))


@dataclass(frozen=True, slots=True)
class MigrationReport:
    """What a run did, and what the database did not allow.

    Attributes:
        applied: names of the migrations applied in this run, in order.
        version: number of the newest applied migration.
        missing: protections that could not be set up, each a sentence; the operator should read them.
    """

    applied: Sequence[str]
    version: int
    missing: Sequence[str]


def _packaged() -> tuple[Migration, ...]:
    found = []
    for path in files("fleet_data").joinpath("migrations").iterdir():
        if match := _FILE_NAME.fullmatch(path.name):
            sql = path.read_text(encoding="utf-8")
            found.append(Migration(int(match[1]), f"{match[1]}_{match[2]}", sql))
    return tuple(sorted(found, key=lambda migration: migration.number))


MIGRATIONS = _packaged()
"""The migrations this version ships, in order; read at import, before there is an event loop to block."""
