"""The SQL of the pipeline: the report, and what a move and a conversion need besides records."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

from fleet_data.claims import Caller
from fleet_data.crm.changing import ChangeSet
from fleet_data.crm.repository.store import CrmTransaction
from fleet_data.pipeline.models import GroupBy, Report, Stage
from fleet_data.pool import Database

COLUMNS = (
    *("group", "currency", "deals", "open", "won", "lost"),
    *("amount_open", "amount_weighted", "amount_won", "win_rate", "avg_days_in_stage"),
)
_GROUPS: dict[GroupBy, tuple[str, str]] = {
    "stage": ("s.name", "min(s.position)"),
    "owner": ("coalesce(u.name, '(nobody)')", "3 DESC, 1"),
    "month": (
        "to_char(coalesce(d.closed_at, d.expected_close::timestamptz), 'YYYY-MM')",
        "1 NULLS LAST",
    ),
    "company": ("coalesce(c.name, '(none)')", "7 DESC NULLS LAST, 1"),
}
_REPORT = """
SELECT {group} AS group, d.currency, count(*) AS deals,
    count(*) FILTER (WHERE d.status = 'open') AS open,
    count(*) FILTER (WHERE d.status = 'won') AS won,
    count(*) FILTER (WHERE d.status = 'lost') AS lost,
    sum(d.amount) FILTER (WHERE d.status = 'open') AS amount_open,
    round(sum(d.amount * s.probability / 100) FILTER (WHERE d.status = 'open'), 2) AS amount_weighted,
    sum(d.amount) FILTER (WHERE d.status = 'won') AS amount_won,
    round(count(*) FILTER (WHERE d.status = 'won')::numeric
        / nullif(count(*) FILTER (WHERE d.status <> 'open'), 0), 3) AS win_rate,
    round(avg(extract(epoch FROM now() - d.stage_changed_at) / 86400)
        FILTER (WHERE d.status = 'open'), 1) AS avg_days_in_stage
FROM crm.deals d
JOIN crm.stages s ON s.pipeline = d.pipeline AND s.key = d.stage
LEFT JOIN crm.users u ON u.id = d.owner_id
LEFT JOIN crm.companies c ON c.id = d.company_id
WHERE d.pipeline = $1 AND ($2::text IS NULL OR coalesce(d.closed_at, d.created_at) >= $2::text::date)
    AND ($3::text IS NULL OR coalesce(d.closed_at, d.created_at) < $3::text::date)
GROUP BY 1, 2 ORDER BY {order}, 2 LIMIT $4
"""


class PipelineRepository:
    """Deals and leads in PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def report(self, caller: Caller, report: Report, *, limit: int) -> list[tuple[Any, ...]]:
        """Return one row per group and currency, in the order of `COLUMNS`."""
        group, order = _GROUPS[report.group_by]
        period = [None if day is None else day.isoformat() for day in (report.since, report.until)]
        async with self._database.reading(caller) as connection:
            rows = await connection.fetch(
                _REPORT.format(group=group, order=order), report.pipeline, *period, limit
            )
        return [tuple(row.values()) for row in rows]

    @asynccontextmanager
    async def changing(
        self, caller: Caller, *, change_set: ChangeSet, keep: bool
    ) -> AsyncGenerator[PipelineTransaction]:
        """Yield a transaction that is kept when `keep` is true and nothing is raised."""
        settings = change_set.settings
        async with self._database.writing(caller, settings=settings, keep=keep) as connection:
            yield PipelineTransaction(connection, caller)


class PipelineTransaction(CrmTransaction):
    """Changes of deals and leads."""

    async def stages(self, pipeline: str) -> list[Stage]:
        """Return the stages of a pipeline, in order."""
        rows = await self._connection.fetch(
            "SELECT pipeline, key, kind FROM store.stages WHERE pipeline = $1 ORDER BY position",
            pipeline,
        )
        return [Stage(**row) for row in rows]

    async def hand_over(self, lead_id: UUID, contact_id: UUID) -> None:
        """Let what is about a lead be about the contact too."""
        for table in ("activities", "notes", "tasks"):
            await self._connection.execute(
                f"UPDATE store.{table} SET contact_id = $1::text::uuid, updated_by = $2 "  # noqa: S608 - own names
                "WHERE lead_id = $3::text::uuid AND contact_id IS NULL AND deleted_at IS NULL",
                str(contact_id),
                self._caller.subject,
                str(lead_id),
            )
