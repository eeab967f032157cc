"""The SQL of campaigns: drafts, launches, and the counts of what became of them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import asyncpg

from fleet_common.errors import NotFound
from fleet_common.postgres import PostgresRecords
from fleet_data.campaigns.models import Action, Audience, Campaign, Draft, Letter, Stats
from fleet_data.campaigns.rendering import VARIABLES
from fleet_data.campaigns.replies import job_of
from fleet_data.claims import Caller
from fleet_data.ids import uuid7
from fleet_data.jobs.models import Job
from fleet_data.jobs.repository import make_due
from fleet_data.mail.mailer import Route
from fleet_data.pool import Connection, Database

COLUMNS = (
    "id, version, name, segment_id, from_name, subject, body, html, state, note, route, max_per_minute, "
    "send_at, launched_by"
)
_PEOPLE = """
FROM unnest($1::text[]::uuid[]) AS wanted (id)
JOIN store.contacts c ON c.id = wanted.id AND c.deleted_at IS NULL
LEFT JOIN store.companies o ON o.id = c.company_id AND o.deleted_at IS NULL
"""
FACTS = ", ".join(f"{column} AS {name}" for name, column in VARIABLES.items())


class CampaignRepository:
    """Campaigns in PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def changing(
        self, caller: Caller, *, change_set: UUID, keep: bool = True
    ) -> AsyncGenerator[CampaignTransaction]:
        """Yield a transaction; what it did stays only when `keep` is true and nothing was raised."""
        settings = {"app.change_set": str(change_set)}
        async with self._database.writing(caller, settings=settings, keep=keep) as connection:
            yield CampaignTransaction(connection, caller)


class CampaignTransaction:
    """What happens to campaigns of one caller, together or not at all."""

    def __init__(self, connection: Connection, caller: Caller) -> None:
        self.records = PostgresRecords(connection, table="store.idempotency")
        self._connection = connection
        self._caller = caller

    async def load(self, id_: UUID) -> Campaign:
        """Return a campaign and lock it.

        Raises:
            NotFound: there is none.
        """
        row = await self._connection.fetchrow(
            f"SELECT {COLUMNS} FROM store.campaigns WHERE id = $1 AND deleted_at IS NULL FOR UPDATE",  # noqa: S608 - names of ours
            id_,
        )
        if row is None:
            raise NotFound("campaign", id_)
        return campaign_of(row)

    async def named(self, name: str) -> UUID:
        """Return the id of the campaign of this id or name.

        Raises:
            NotFound: there is none.
        """
        found: str | None = await self._connection.fetchval(
            "SELECT id FROM store.campaigns WHERE deleted_at IS NULL AND (id::text = $1 OR name = $1) "
            "ORDER BY name = $1 LIMIT 1",
            name,
        )
        if found is None:
            raise NotFound("campaign", name[:120])
        return UUID(found)

    async def segment(self, id_: UUID) -> str:
        """Return the name of a segment.

        Raises:
            NotFound: there is none.
        """
        name: str | None = await self._connection.fetchval(
            "SELECT name FROM store.segments WHERE id = $1 AND deleted_at IS NULL", id_
        )
        if name is None:
            raise NotFound("segment", id_)
        return name

    async def template(self, name: str) -> Letter:
        """Return the texts of a template.

        Raises:
            NotFound: there is none.
        """
        row = await self._connection.fetchrow(
            "SELECT subject, body, html FROM store.templates WHERE name = $1 AND deleted_at IS NULL",
            name,
        )
        if row is None:
            raise NotFound("template", name)
        return Letter(row["subject"], row["body"], row["html"])

    async def save_template(self, name: str, letter: Letter) -> None:
        """Keep the letter under a name; one of this name is replaced."""
        await self._connection.execute(
            "INSERT INTO store.templates (tenant, id, name, subject, body, html, created_by, updated_by) "
            "VALUES ($1, $2, $3, $4, $5, $6, $7, $7) "
            "ON CONFLICT (tenant, name) WHERE deleted_at IS NULL DO UPDATE SET subject = excluded.subject, "
            "body = excluded.body, html = excluded.html, updated_by = excluded.updated_by",
            self._caller.tenant,
            uuid7(),
            name,
            letter.subject,
            letter.body,
            letter.html,
            self._caller.subject,
        )

    async def insert(self, draft: Draft) -> UUID:
        """Make a campaign and return its id."""
        id_ = uuid7()
        await self._connection.execute(
            "INSERT INTO store.campaigns (tenant, id, name, segment_id, from_name, subject, body, html, send_at, "
            "created_by, updated_by) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9::text::timestamptz, $10, $10)",
            self._caller.tenant,
            id_,
            *_values(draft),
            self._caller.subject,
        )
        return id_

    async def update(self, id_: UUID, draft: Draft) -> None:
        """Replace what a draft says."""
        await self._connection.execute(
            "UPDATE store.campaigns SET name = $2, segment_id = $3, from_name = $4, subject = $5, body = $6, "
            "html = $7, send_at = $8::text::timestamptz, updated_by = $9 WHERE id = $1",
            id_,
            *_values(draft),
            self._caller.subject,
        )

    async def audience(self, ids: Sequence[str], lacking: Sequence[str]) -> Audience:
        """Count these contacts: all, those who may not be written to, and those without a value for a variable."""
        counted = "".join(
            f", count(*) FILTER (WHERE block IS NULL AND nullif({name}, '') IS NULL) AS {name}"
            for name in lacking
        )
        row = await self._connection.fetchrow(
            "SELECT count(*) AS size, count(*) FILTER (WHERE block = 'no_address') AS no_address, "  # noqa: S608 - names of ours
            "count(*) FILTER (WHERE block = 'suppressed') AS suppressed, "
            f"count(*) FILTER (WHERE block = 'no_consent') AS no_consent {counted} "
            f"FROM (SELECT {FACTS}, store.mail_block(c.email) AS block {_PEOPLE}) AS people",
            list(ids),
        )
        assert row is not None  # noqa: S101 - an aggregate has one row
        reasons = ("no_address", "suppressed", "no_consent")
        return Audience(
            row["size"],
            {reason: row[reason] for reason in reasons if row[reason]},
            {name: row[name] for name in lacking if row[name]},
        )

    async def sample(self, ids: Sequence[str], most: int) -> list[dict[str, str | None]]:
        """Return the facts of some who would be written to."""
        rows = await self._connection.fetch(
            f"SELECT {FACTS} {_PEOPLE} WHERE store.mail_block(c.email) IS NULL ORDER BY c.id LIMIT $2",
            list(ids),
            most,
        )
        return [dict(row) for row in rows]

    async def launch(
        self, campaign: Campaign, ids: Sequence[str], *, route: Route, max_per_minute: int
    ) -> None:
        """Freeze who is reached and make the campaign due."""
        await self._connection.execute(
            "INSERT INTO store.campaign_recipients (tenant, id, campaign_id, contact_id, email) "
            f"SELECT $2, gen_random_uuid(), $3, c.id, c.email {_PEOPLE} WHERE store.mail_block(c.email) IS NULL "
            "ON CONFLICT (tenant, campaign_id, contact_id) DO NOTHING",
            list(ids),
            self._caller.tenant,
            campaign.id,
        )
        await self._connection.execute(
            "UPDATE store.campaigns SET state = 'sending', note = NULL, route = $2, max_per_minute = $3, "
            "launched_at = now(), launched_by = $4, updated_by = $4 WHERE id = $1",
            campaign.id,
            route,
            max_per_minute,
            self._caller.subject,
        )
        job = Job(self._caller.tenant, "campaign", campaign.id)
        await make_due(self._connection, job, at=campaign.send_at)
        if route == "gmail":
            await make_due(self._connection, job_of(self._caller.tenant))

    async def control(self, campaign: Campaign, action: Action) -> None:
        """Pause, resume or cancel."""
        state = {"pause": "paused", "resume": "sending", "cancel": "cancelled"}[action]
        await self._connection.execute(
            "UPDATE store.campaigns SET state = $2, note = NULL, updated_by = $3, "
            "finished_at = CASE WHEN $2 = 'cancelled' THEN now() END WHERE id = $1",
            campaign.id,
            state,
            self._caller.subject,
        )
        if action == "cancel":
            await self._connection.execute(
                "UPDATE store.campaign_recipients SET state = 'skipped', reason = 'cancelled', updated_at = now() "
                "WHERE campaign_id = $1 AND state = 'queued' AND ticket IS NULL",
                campaign.id,
            )
        if action != "pause":
            at = campaign.send_at if action == "resume" else None
            job = Job(self._caller.tenant, "campaign", campaign.id)
            await make_due(self._connection, job, at=at)

    async def stats(self, id_: UUID) -> Stats:
        """Return how far a campaign has come."""
        campaign = await self.load(id_)
        rows = await self._connection.fetch(
            "SELECT state, count(*) AS n FROM store.campaign_recipients WHERE campaign_id = $1 GROUP BY state",
            id_,
        )
        recent = await self._connection.fetchval(
            "SELECT count(*) FROM store.campaign_recipients "
            "WHERE campaign_id = $1 AND sent_at > now() - interval '5 minutes'",
            id_,
        )
        counts = {row["state"]: row["n"] for row in rows}
        return Stats(
            str(id_),
            campaign.name,
            campaign.state,
            campaign.version,
            campaign.note,
            sum(counts.values()),
            counts,
            round(recent / 5, 1),
        )

    async def unknown(self, id_: UUID, most: int) -> list[str]:
        """Return the contacts of whose mail nobody knows whether it left."""
        rows = await self._connection.fetch(
            "SELECT contact_id FROM store.campaign_recipients WHERE campaign_id = $1 AND state = 'unknown' "
            "ORDER BY contact_id LIMIT $2",
            id_,
            most,
        )
        return [row["contact_id"] for row in rows]

    async def unsubscribe(self, recipient: UUID) -> bool:
        """Suppress the address that a recipient's mail went to; False when there is no such recipient."""
        email = await self._connection.fetchval(
            "UPDATE store.campaign_recipients SET updated_at = now(), "
            "state = CASE WHEN state IN ('sent', 'replied', 'unknown') THEN 'unsubscribed' ELSE state END "
            "WHERE id = $1 RETURNING email",
            recipient,
        )
        if email is None:  # a mail of a workflow
            query = "SELECT email FROM store.mails WHERE id = $1"
            email = await self._connection.fetchval(query, recipient)
        if email is None:
            return False
        await self._connection.execute(
            "INSERT INTO store.suppressions (tenant, id, address, channel, reason, created_by, updated_by) "
            "VALUES ($1, $2, lower($3), 'email', 'unsubscribed', $4, $4) "
            "ON CONFLICT (tenant, address, channel) WHERE deleted_at IS NULL DO NOTHING",
            self._caller.tenant,
            uuid7(),
            email,
            self._caller.subject,
        )
        return True


def campaign_of(row: asyncpg.Record) -> Campaign:
    """Return a campaign of its columns."""
    facts: dict[str, Any] = dict(row)
    letter = Letter(facts.pop("subject"), facts.pop("body"), facts.pop("html"))
    facts |= {name: UUID(facts[name]) for name in ("id", "segment_id")}
    return Campaign(**facts, letter=letter)


def _values(draft: Draft) -> tuple[Any, ...]:
    letter = draft.letter
    return (
        draft.name,
        draft.segment_id,
        draft.from_name,
        letter.subject,
        letter.body,
        letter.html,
        draft.send_at,
    )
