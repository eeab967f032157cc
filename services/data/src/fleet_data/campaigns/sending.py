"""The SQL of sending: claim one recipient, record each step of its mail, and find out when nothing is left.

Every step is signed with the lease under which it was claimed. A worker that lost its lease, and does not know
yet, matches no row any more.
"""

from __future__ import annotations

from uuid import UUID

from fleet_data.campaigns.models import Campaign, Claimed
from fleet_data.campaigns.rendering import VARIABLES
from fleet_data.campaigns.repository import COLUMNS, FACTS, campaign_of
from fleet_data.claims import Caller
from fleet_data.jobs.models import Job
from fleet_data.mail.models import Outcome
from fleet_data.mail.repository import ONE_AT_A_TIME
from fleet_data.pool import Database

_CLAIM = f"""
WITH next AS MATERIALIZED (
    SELECT r.id, CASE WHEN r.ticket IS NULL THEN coalesce(store.mail_block(r.email), (
            SELECT 'deleted' FROM store.contacts gone
            WHERE gone.id = r.contact_id AND gone.deleted_at IS NOT NULL)) END AS block
    FROM store.campaign_recipients r
    WHERE r.campaign_id = $1 AND r.state = 'queued' AND r.due_at <= now()
        AND EXISTS (SELECT FROM store.campaigns g WHERE g.id = $1 AND g.state IN ('sending', 'cancelled'))
        AND (SELECT store.mails_of_the_day()) < $3
    ORDER BY r.due_at, r.id LIMIT 1 FOR UPDATE OF r SKIP LOCKED
), taken AS (
    UPDATE store.campaign_recipients r
    SET state = CASE WHEN next.block IS NULL THEN 'claimed' ELSE 'skipped' END, reason = next.block,
        claimed_by = $2, attempts = r.attempts + 1, updated_at = now()
    FROM next WHERE r.id = next.id
    RETURNING r.id, r.contact_id, r.email, r.state, r.ticket, r.attempts
)
SELECT t.id, t.email AS address, t.state, t.ticket, t.attempts, {FACTS}
FROM taken t JOIN store.contacts c ON c.id = t.contact_id
LEFT JOIN store.companies o ON o.id = c.company_id AND o.deleted_at IS NULL
"""  # noqa: S608 - names of ours
# Not to be sent after all: because of the address or the campaign for good, because of a pause for now.
_SETTLE = """
UPDATE store.campaign_recipients r SET
    state = CASE WHEN $3 <> 'skipped' THEN $3
        WHEN store.mail_block(r.email) IS NOT NULL OR g.state = 'cancelled' THEN 'skipped' ELSE 'queued' END,
    reason = CASE WHEN $3 <> 'skipped' THEN $4
        ELSE coalesce(store.mail_block(r.email), CASE g.state WHEN 'cancelled' THEN 'cancelled' END) END,
    ticket = CASE WHEN $3 <> 'skipped' THEN r.ticket END,
    sent_at = CASE WHEN $3 IN ('sent', 'unknown') THEN now() END,
    updated_at = now()
FROM store.campaigns g
WHERE r.id = $1 AND r.state = 'claimed' AND r.claimed_by = $2 AND g.id = r.campaign_id
"""
_INTEND = """
UPDATE store.campaign_recipients r SET ticket = $3, updated_at = now()
WHERE r.id = $1 AND r.state = 'claimed' AND r.claimed_by = $2 AND store.mail_block(r.email) IS NULL
    AND EXISTS (SELECT FROM store.campaigns g WHERE g.id = r.campaign_id AND g.state = 'sending')
RETURNING true
"""
_CAMPAIGN = (
    f"SELECT {COLUMNS} FROM store.campaigns WHERE id = $1 AND state IN ('sending', 'cancelled')"  # noqa: S608 - names of ours
)


class SendingRepository:
    """The recipients of campaigns in PostgreSQL, for whoever sends."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, job: Job, lease: UUID) -> tuple[Caller, Campaign] | None:
        """Return the campaign and in whose name it is sent; what workers before claimed is queued again.

        None when there is nothing to send now: it is paused.
        """
        async with self._database.writing(Caller(job.tenant, "worker")) as connection:
            row = await connection.fetchrow(_CAMPAIGN, job.id)
            if row is None:
                return None
            await connection.execute(
                "UPDATE store.campaign_recipients SET state = 'queued', updated_at = now() "
                "WHERE campaign_id = $1 AND state = 'claimed' AND claimed_by <> $2",
                job.id,
                lease,
            )
        campaign = campaign_of(row)
        return Caller(job.tenant, campaign.launched_by or "worker"), campaign

    async def claim(
        self, caller: Caller, campaign: UUID, lease: UUID, *, per_day: int
    ) -> Claimed | None:
        """Return the next recipient, now this lease's; None when none is due, or the day's share is used up."""
        while True:
            async with self._database.writing(caller) as connection:
                await connection.execute(ONE_AT_A_TIME, caller.tenant)
                row = await connection.fetchrow(_CLAIM, campaign, lease, per_day)
            if row is None:
                return None
            if row["state"] == "claimed":
                facts = {name: row[name] for name in VARIABLES}
                id_ = UUID(row["id"])
                return Claimed(id_, row["address"], facts, row["attempts"], row["ticket"])

    async def postpone(self, caller: Caller, recipient: UUID, lease: UUID, seconds: float) -> None:
        """Queue a recipient again, due in so many seconds; its ticket stays."""
        await self._execute(
            caller,
            "UPDATE store.campaign_recipients SET state = 'queued', updated_at = now(), "
            "due_at = now() + $3 * interval '1 second' WHERE id = $1 AND state = 'claimed' AND claimed_by = $2",
            recipient,
            lease,
            seconds,
        )

    async def pause(self, caller: Caller, campaign: UUID, note: str) -> None:
        """Pause a campaign that cannot go on without a person."""
        await self._execute(
            caller,
            "UPDATE store.campaigns SET state = 'paused', note = $2, updated_by = 'worker' "
            "WHERE id = $1 AND state = 'sending'",
            campaign,
            note,
        )

    async def finish(self, caller: Caller, campaign: UUID) -> float | None:
        """Return the seconds until the next recipient is due; None when the campaign is done, and then it says so."""
        async with self._database.writing(caller) as connection:
            due_in_s: float | None = await connection.fetchval(
                "SELECT extract(epoch FROM min(due_at) - now())::float8 FROM store.campaign_recipients "
                "WHERE campaign_id = $1 AND state IN ('queued', 'claimed')",
                campaign,
            )
            if due_in_s is None:
                await connection.execute(
                    "UPDATE store.campaigns SET state = 'done', finished_at = now(), updated_by = 'worker' "
                    "WHERE id = $1 AND state = 'sending'",
                    campaign,
                )
        return None if due_in_s is None else max(0.0, due_in_s)

    async def intend(self, caller: Caller, recipient: UUID, lease: UUID, ticket: str) -> bool:
        """Record that a mail is about to leave, unless it must not any more."""
        async with self._database.writing(caller) as connection:
            return bool(await connection.fetchval(_INTEND, recipient, lease, ticket))

    async def retract(self, caller: Caller, recipient: UUID, lease: UUID) -> None:
        """Record that it has not left."""
        await self._execute(
            caller,
            "UPDATE store.campaign_recipients SET ticket = NULL WHERE id = $1 AND claimed_by = $2",
            recipient,
            lease,
        )

    async def settle(self, caller: Caller, recipient: UUID, lease: UUID, outcome: Outcome) -> None:
        """Record what became of a mail."""
        await self._execute(caller, _SETTLE, recipient, lease, outcome.verdict, outcome.reason)

    async def _execute(self, caller: Caller, statement: str, *args: object) -> None:
        async with self._database.writing(caller) as connection:
            await connection.execute(statement, *args)
