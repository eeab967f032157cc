"""The databases that SQL may be run on, by name: whom the policy lets in, and which are too dangerous to use."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog

from fleet_common.errors import FleetError, NotConfigured, NotFound
from fleet_common.policy import Grant
from fleet_data.databases.models import OWN, Standing
from fleet_data.databases.standing import FLOOR, standing_of
from fleet_data.query.service import Queries
from fleet_data.schema.checks import OverPrivileged
from fleet_data.schema.privileges import PrivilegeWatch

log = structlog.get_logger()

_NO_TENANTS = "there are no tenants: whoever may use it sees all that the role sees"
_PROBE_S = 0.8


@dataclass(frozen=True, slots=True)
class Source:
    """One database: what runs SQL on it, and what its role may do."""

    queries: Queries
    watch: PrivilegeWatch


class Databases:
    """The CRM's own database and the others.

    Attributes:
        others: all but the CRM's, by name.
    """

    def __init__(self, own: Source, others: Mapping[str, Source]) -> None:
        self._own = own
        self.others = others

    async def get(self, name: str, grant: Grant) -> Queries:
        """Return what runs SQL on a database.

        Raises:
            NotFound: there is none of that name, or the caller may not know of it.
            OverPrivileged: its role may do more than read.
        """
        if name == OWN:
            return self._own.queries
        if name not in self.others or not grant.reaches_database(name):
            raise NotFound("database", name, hint=f"There are: {', '.join(self.names(grant))}")
        await self._safe(name)
        return self.others[name].queries

    def names(self, grant: Grant) -> list[str]:
        """Return the databases that a caller may use."""
        return [OWN, *(name for name in self.others if grant.reaches_database(name))]

    async def missing(self, name: str) -> Sequence[str]:
        """Return the protections that a database lacks, each a sentence."""
        if name == OWN:
            return standing_of(await self._own.watch.current()).missing
        return [_NO_TENANTS, *(await standing_at(name, self.others[name])).missing]

    async def check(self) -> None:
        """Raise when the role of another database may do more than read; one that is away harms nobody else.

        Raises:
            OverPrivileged: it names the privileges.
        """
        async with asyncio.TaskGroup() as group:
            probes = [group.create_task(self._probe(name)) for name in self.others]
        for found in (probe.result() for probe in probes):
            if found is not None:
                raise found

    async def _probe(self, name: str) -> NotConfigured | None:
        try:
            async with asyncio.timeout(_PROBE_S):
                await self._safe(name)
        except NotConfigured as exc:
            return exc
        except (FleetError, TimeoutError):
            log.warning("database_away", database=name)
        return None

    async def _safe(self, name: str) -> None:
        standing = await standing_at(name, self.others[name])
        if standing.refused:
            raise OverPrivileged(
                f"{standing.role} (database {name})",
                standing.refused,
                hint="Use a role that may only SELECT; docs/sql.md has the statements",
            )


async def standing_at(name: str, source: Source) -> Standing:
    """Return what the role of another database may do.

    Raises:
        NotConfigured: its PostgreSQL is too old.
    """
    mine = await source.watch.current()
    if mine.version < FLOOR:
        raise NotConfigured(
            f"{name} is PostgreSQL {mine.version}; {FLOOR} is the oldest that works"
        )
    return standing_of(mine)
