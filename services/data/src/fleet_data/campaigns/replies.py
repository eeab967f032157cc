"""Replies to campaigns: a mail that comes into the mailbox names in its headers the one that it answers.

Looking twice does no harm, so each look begins a little before the last one ended, and nothing is lost with a worker
that dies in between.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from fleet_data.claims import Caller
from fleet_data.jobs.models import Job, Lease
from fleet_data.mail.mailers import Mailers
from fleet_data.pool import Connection, Database

LOOK_S = 300.0
_OVERLAP_S = 600  # a mail is found some minutes after it came
# Within a month of a campaign; who answers later has something else in mind.
_BEGIN = """
SELECT extract(epoch FROM coalesce((SELECT looked_at FROM store.reply_looks), min(launched_at)))::bigint AS since,
    extract(epoch FROM now())::bigint AS at
FROM store.campaigns WHERE route = 'gmail' AND launched_at > now() - interval '30 days'
HAVING count(*) > 0
"""
# A reply also proves that a mail of which nobody knew arrived.
_REPLIED = """
UPDATE store.campaign_recipients SET state = 'replied', updated_at = now()
WHERE id = ANY($1::text[]::uuid[]) AND state IN ('sent', 'unknown')
"""
_LOOKED = """
INSERT INTO store.reply_looks (tenant, looked_at) VALUES ($1, to_timestamp($2))
ON CONFLICT (tenant) DO UPDATE SET looked_at = excluded.looked_at
"""


def job_of(tenant: str) -> Job:
    """Return the one job that looks through a tenant's mailbox."""
    return Job(tenant, "replies", UUID(int=0))


@dataclass(frozen=True, slots=True)
class Replies:
    """Looks for replies; a `jobs.Handler`."""

    database: Database
    mailers: Mailers

    async def __call__(self, job: Job, _: Lease) -> float | None:
        """Record who has answered since the last look; None when no campaign is young enough for answers."""
        caller = Caller(job.tenant, "worker")
        async with self.database.writing(caller, keep=False) as connection:
            begun = await connection.fetchrow(_BEGIN)
        if begun is None:
            return None
        answered = await self.mailers.mailbox(caller).answered(since=begun["since"] - _OVERLAP_S)
        async with self.database.writing(caller) as connection:
            await _record(connection, job.tenant, answered, begun["at"])
        return LOOK_S


async def _record(
    connection: Connection, tenant: str, answered: Collection[UUID], looked_at: int
) -> None:
    await connection.execute(_REPLIED, [str(each) for each in answered])
    await connection.execute(_LOOKED, tenant, looked_at)
