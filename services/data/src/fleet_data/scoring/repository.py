"""The SQL of scoring: facts as they were at a moment, outcomes, and the models of a tenant."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from fleet_data.claims import Caller
from fleet_data.pool import Database
from fleet_data.scoring.features import facts_of
from fleet_data.scoring.models import HORIZON_DAYS, Example, Facts, LeadModel, Metrics, StoredModel

# $1: days after its creation at which a lead is looked at; NULL is now. Nothing later than that moment is read, and
# of things that change (a task, a note) only that they were there.
_FACTS = """
SELECT l.id, l.source, l.title, l.country, l.has_phone, l.mail_domain, company.industry, company.employees,
    extract(epoch FROM moment.at - l.created_at)::float8 / 86400 AS age_days,
    coalesce(entered.status, 'new') AS status,
    extract(epoch FROM moment.at - entered.entered_at)::float8 / 86400 AS status_days,
    did.*, noted.notes, planned.tasks, moment.at
FROM chosen l
CROSS JOIN LATERAL (
    SELECT coalesce(l.created_at + days * interval '1 day', now()) AS at FROM unnest($1::float8[]) AS days
) moment
LEFT JOIN LATERAL (
    SELECT c.industry, c.employees FROM crm.companies c
    WHERE c.domain = l.mail_domain AND c.created_at <= moment.at
) company ON true
LEFT JOIN LATERAL (
    SELECT h.status, h.entered_at FROM crm.lead_status_history h
    WHERE h.lead_id = l.id AND h.entered_at <= moment.at ORDER BY h.entered_at DESC LIMIT 1
) entered ON true
CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE kind = 'call') AS calls,
        count(*) FILTER (WHERE kind = 'meeting') AS meetings,
        count(*) FILTER (WHERE kind = 'email') AS emails,
        count(*) FILTER (WHERE kind = 'visit') AS visits,
        count(*) FILTER (WHERE occurred_at > moment.at - interval '7 days') AS recent,
        min(ago) FILTER (WHERE kind = 'call') AS calls_days,
        min(ago) FILTER (WHERE kind = 'meeting') AS meetings_days,
        min(ago) FILTER (WHERE kind = 'email') AS emails_days,
        min(ago) FILTER (WHERE kind = 'visit') AS visits_days
    FROM crm.activities a,
        LATERAL (SELECT extract(epoch FROM moment.at - a.occurred_at)::float8 / 86400 AS ago) since
    WHERE a.lead_id = l.id AND a.occurred_at <= moment.at
) did
CROSS JOIN LATERAL (
    SELECT count(*) AS notes FROM crm.notes n WHERE n.lead_id = l.id AND n.created_at <= moment.at
) noted
CROSS JOIN LATERAL (
    SELECT count(*) AS tasks FROM crm.tasks t WHERE t.lead_id = l.id AND t.created_at <= moment.at
) planned
"""
# Which leads. Materialised: a function in a join on a table with row security would keep it from its index.
_CHOSEN = """
WITH chosen AS MATERIALIZED (
    SELECT id, source, title, country, created_at, phone IS NOT NULL AS has_phone,
        nullif(split_part(email, '@', 2), '') AS mail_domain
    FROM crm.leads
"""
_OF_IDS = f"{_CHOSEN} WHERE id = ANY($2::text[]::uuid[])) {_FACTS}"
# A lead is an example at a moment when it was still open, once the horizon has passed: of younger ones only those
# that were decided early would be known, and they are not like the others.
_EXAMPLES = f"""
{_CHOSEN} ORDER BY id DESC LIMIT $2), facts AS ({_FACTS})
SELECT facts.*, coalesce(ended.status = 'converted' AND ended.entered_at <= horizon.until, false) AS has_converted
FROM facts
CROSS JOIN LATERAL (SELECT facts.at + interval '{HORIZON_DAYS} days' AS until) horizon
LEFT JOIN LATERAL (
    SELECT h.status, h.entered_at FROM crm.lead_status_history h
    WHERE h.lead_id = facts.id AND h.status IN ('converted', 'unqualified')
    ORDER BY h.entered_at LIMIT 1
) ended ON true
WHERE horizon.until <= now() AND (ended.entered_at IS NULL OR ended.entered_at > facts.at)
ORDER BY facts.id, facts.at
"""  # noqa: S608 - own text
_MOMENTS = (0.0, 7.0, 21.0, 60.0)
_MOST_LEADS = 20_000


class ScoringRepository:
    """Leads and models in PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def facts(self, caller: Caller, ids: Sequence[UUID]) -> list[Facts]:
        """Return what is known now of those of the leads that are there."""
        async with self._database.reading(caller) as connection:
            rows = await connection.fetch(_OF_IDS, [None], [str(id_) for id_ in ids])
        return [facts_of(dict(row)) for row in rows]

    async def examples(self, caller: Caller) -> list[Example]:
        """Return what can be learnt from, oldest lead first."""
        async with self._database.reading(caller) as connection:
            rows = await connection.fetch(_EXAMPLES, _MOMENTS, _MOST_LEADS)
        return [Example(facts_of(dict(row)), row["has_converted"]) for row in rows]

    async def active(self, caller: Caller) -> LeadModel | None:
        """Return the model in use; None when the tenant never trained one."""
        async with self._database.reading(caller) as connection:
            row = await connection.fetchrow(
                "SELECT version, model FROM crm.lead_models WHERE is_active"
            )
        return None if row is None else LeadModel.of_json(row["version"], row["model"])

    async def models(self, caller: Caller) -> list[StoredModel]:
        """Return the models of the tenant, newest first."""
        async with self._database.reading(caller) as connection:
            rows = await connection.fetch(
                "SELECT version, model, metrics, is_active, trained_at, trained_by "
                "FROM crm.lead_models ORDER BY version DESC LIMIT 50"
            )
        return [
            StoredModel(
                LeadModel.of_json(row["version"], row["model"]),
                *(row[name] for name in ("metrics", "is_active", "trained_at", "trained_by")),
            )
            for row in rows
        ]

    async def trained_by(self, caller: Caller, task: str) -> int | None:
        """Return the version that an earlier attempt of the same task stored."""
        async with self._database.writing(caller) as connection:
            version: int | None = await connection.fetchval(
                "SELECT version FROM store.lead_models WHERE task = $1", task
            )
        return version

    async def add(
        self, caller: Caller, model: LeadModel, metrics: Metrics, *, task: str | None
    ) -> int:
        """Store a model as the next version and put it into use."""
        async with self._database.writing(caller) as connection:
            # One training at a time per tenant takes a number: the row of the tenant is the lock.
            await connection.execute(
                "SELECT FROM store.tenants WHERE tenant = $1 FOR UPDATE", caller.tenant
            )
            await connection.execute(
                "UPDATE store.lead_models SET is_active = false WHERE is_active"
            )
            version: int = await connection.fetchval(
                "INSERT INTO store.lead_models (tenant, version, model, metrics, is_active, task, trained_by) "
                "SELECT $1, coalesce(max(version), 0) + 1, $2, $3, true, $4, $5 FROM store.lead_models "
                "RETURNING version",
                caller.tenant,
                model.to_json(),
                metrics.to_json(),
                task,
                caller.subject,
            )
        return version
