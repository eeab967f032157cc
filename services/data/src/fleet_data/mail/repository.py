"""The SQL of mails to one person: who it goes to, the intent before it leaves, what became of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

from fleet_common.errors import NotFound
from fleet_common.postgres import PostgresRecords
from fleet_data.claims import Caller
from fleet_data.ids import uuid7
from fleet_data.mail.mailer import Route
from fleet_data.mail.models import Addressee, Outcome, StoredMail
from fleet_data.pool import Connection, Database

# Not FOR UPDATE: nobody who only points at the tenant has to wait.
ONE_AT_A_TIME = "SELECT FROM store.tenants WHERE tenant = $1 FOR NO KEY UPDATE"
"""Makes whoever is about to send one more mail of the day wait for each other."""

_TAKEN_FOR_S = 120  # longer than a call may take: after this nobody is at work on it


class MailRepository:
    """Mails to one person in PostgreSQL."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def changing(
        self, caller: Caller, *, change_set: UUID, keep: bool = True
    ) -> AsyncGenerator[MailTransaction]:
        """Yield a transaction; what it did stays only when `keep` is true and nothing was raised."""
        settings = {"app.change_set": str(change_set)}
        async with self._database.writing(caller, settings=settings, keep=keep) as connection:
            yield MailTransaction(connection, caller)


class MailTransaction:
    """What happens to mails of one caller, together or not at all."""

    def __init__(self, connection: Connection, caller: Caller) -> None:
        self.records = PostgresRecords(connection, table="store.idempotency")
        self._connection = connection
        self._caller = caller

    async def addressee(self, contact: UUID) -> Addressee:
        """Return whom a mail goes to.

        Raises:
            NotFound: there is no such contact.
        """
        row = await self._connection.fetchrow(
            "SELECT concat_ws(' ', first_name, last_name) AS name, email, version, "
            "store.mail_block(email) = 'suppressed' AS is_suppressed "
            "FROM store.contacts WHERE id = $1 AND deleted_at IS NULL",
            contact,
        )
        if row is None:
            raise NotFound("contact", contact)
        return Addressee(row["name"], row["email"], row["version"], bool(row["is_suppressed"]))

    async def of_the_day(self) -> int:
        """Return how many mails left within 24 hours; nobody adds one before this transaction ends."""
        await self._connection.execute(ONE_AT_A_TIME, self._caller.tenant)
        return int(await self._connection.fetchval("SELECT store.mails_of_the_day()"))

    async def insert(self, id_: UUID, contact: UUID, email: str, route: Route) -> UUID:
        """Record that a mail is to be written, not taken by anybody, and return its id."""
        await self._connection.execute(
            "INSERT INTO store.mails (tenant, id, contact_id, email, state, route, claimed_by, claimed_at, created_by) "
            "VALUES ($1, $2, $3, $4, 'claimed', $5, $2, '-infinity', $6)",
            self._caller.tenant,
            id_,
            contact,
            email,
            route,
            self._caller.subject,
        )
        return id_

    async def take(self, id_: UUID, lease: UUID) -> bool:
        """Take an open mail; False when another call is at work on it, or it has its end."""
        taken = await self._connection.fetchval(
            "UPDATE store.mails SET claimed_by = $2, claimed_at = now() WHERE id = $1 AND state = 'claimed' "
            "AND claimed_at < now() - $3 * interval '1 second' RETURNING true",
            id_,
            lease,
            _TAKEN_FOR_S,
        )
        return bool(taken)

    async def load(self, id_: UUID) -> StoredMail:
        """Return a mail."""
        row = await self._connection.fetchrow(
            "SELECT id, email, state, route, ticket, reason FROM store.mails WHERE id = $1", id_
        )
        if row is None:
            raise NotFound("mail", id_)
        return StoredMail(**dict(row))

    async def give_back(self, id_: UUID, lease: UUID) -> None:
        """Let another call go on with it."""
        await self._connection.execute(
            "UPDATE store.mails SET claimed_at = '-infinity' WHERE id = $1 AND claimed_by = $2",
            id_,
            lease,
        )

    async def intend(self, id_: UUID, lease: UUID, ticket: str | None) -> bool:
        """Record the ticket, or that there is none; False when the mail must not leave any more."""
        done = await self._connection.fetchval(
            "UPDATE store.mails SET ticket = $3 WHERE id = $1 AND claimed_by = $2 AND state = 'claimed' "
            "AND store.mail_block(email) IS DISTINCT FROM 'suppressed' RETURNING true",
            id_,
            lease,
            ticket,
        )
        return bool(done)

    async def settle(self, id_: UUID, lease: UUID, state: str, reason: str | None) -> None:
        """Record what became of it."""
        await self._connection.execute(
            "UPDATE store.mails SET state = $3, reason = $4, "
            "sent_at = CASE WHEN $3 IN ('sent', 'unknown') THEN now() END WHERE id = $1 AND claimed_by = $2",
            id_,
            lease,
            state,
            reason,
        )

    async def log_activity(self, contact: UUID, subject: str, body: str) -> None:
        """Add the mail to what happened with the contact."""
        await self._connection.execute(
            "INSERT INTO store.activities (tenant, id, kind, subject, body, occurred_at, contact_id, created_by, "
            "updated_by) VALUES ($1, $2, 'email', $3, $4, now(), $5, $6, $6)",
            self._caller.tenant,
            uuid7(),
            subject,
            body,
            contact,
            self._caller.subject,
        )


@dataclass(frozen=True, slots=True)
class MailJournal:
    """The steps of one mail, in its row; a `mailer.Journal`."""

    store: MailRepository
    caller: Caller
    id: UUID
    lease: UUID
    contact: UUID
    subject: str
    body: str

    async def intend(self, ticket: str) -> bool:
        """Record that the mail is about to leave; False when it must not after all."""
        async with self.store.changing(self.caller, change_set=self.lease) as changes:
            return await changes.intend(self.id, self.lease, ticket)

    async def retract(self) -> None:
        """Record that it has not left."""
        async with self.store.changing(self.caller, change_set=self.lease) as changes:
            await changes.intend(self.id, self.lease, None)

    async def settle(self, outcome: Outcome) -> None:
        """Record what became of it, and in the history of the contact."""
        async with self.store.changing(self.caller, change_set=self.lease) as changes:
            await changes.settle(self.id, self.lease, outcome.verdict, outcome.reason)
            if outcome.verdict in {"sent", "unknown"}:
                await changes.log_activity(self.contact, self.subject, self.body)
