"""Readiness: the database answers, is migrated, knows our claim key, and the reader is as narrow as it must be."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from fnmatch import fnmatchcase
from typing import Protocol

from fleet_common.errors import NotConfigured
from fleet_data.schema.models import Migration
from fleet_data.schema.privileges import TRUSTED_S

_NAMED = 12  # privileges that a message names


class OverPrivileged(NotConfigured):
    """Raised when the reader's role may do what a reader must not; the text names the privileges."""

    def __init__(
        self,
        role: str,
        privileges: Sequence[str],
        hint: str = "Run `python -m fleet_data migrate` and use the role crm_reader",
    ) -> None:
        super().__init__(
            f"the reader's role {role} has too many privileges: {_some(privileges)}", hint=hint
        )


class Inspector(Protocol):
    """What the checks ask of the database."""

    async def reader_privileges(self) -> tuple[str, Sequence[str]]:
        """Return the reader's role and what it may do that a reader must not."""

    async def newest_migration(self) -> int:
        """Return the number of the newest applied migration, 0 without any."""

    async def verify_claim(self) -> None:
        """Return when the database accepts our claims."""


class Privileges:
    """The checks of readiness, each raising what is wrong."""

    def __init__(
        self,
        inspector: Inspector,
        migrations: Sequence[Migration],
        *,
        accepted: Collection[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._inspector = inspector
        self._version = max(migration.number for migration in migrations)
        self._accepted = accepted
        self._clock = clock
        self._narrow_until = float("-inf")

    async def check_reader(self) -> None:
        """Raise unless the reader can only read, as one tenant at a time.

        Raises:
            OverPrivileged: it can do more.
            Unavailable: the database is away.
        """
        if self._clock() >= self._narrow_until:
            role, found = await self._inspector.reader_privileges()
            excess = [each for each in found if not self._accepts(each)]
            if excess:
                raise OverPrivileged(role, excess)
            self._narrow_until = self._clock() + TRUSTED_S
        await self._inspector.verify_claim()

    def _accepts(self, privilege: str) -> bool:
        return any(fnmatchcase(privilege, glob) for glob in self._accepted)

    async def check_schema(self) -> None:
        """Raise unless the writer finds a schema that is migrated at least as far as this version needs.

        A newer one is fine: during a rolling update the new version migrates first.

        Raises:
            NotConfigured: migrations are pending.
            Unavailable: the database is away.
        """
        found = await self._inspector.newest_migration()
        if found < self._version:
            raise NotConfigured(
                f"the schema is at {found:04} and this version needs {self._version:04}",
                hint="Run `python -m fleet_data migrate`",
            )


def _some(privileges: Sequence[str]) -> str:
    more = len(privileges) - _NAMED
    return ", ".join(privileges[:_NAMED]) + (f" and {more} more" if more > 0 else "")
