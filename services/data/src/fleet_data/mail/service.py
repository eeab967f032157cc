"""Mails to one person: drafted or sent once, recorded with the contact, and found again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from fleet_common.approvals import Plan
from fleet_common.errors import Conflict, FleetError, InvalidInput, RateLimited
from fleet_common.idempotency import KeyedCall, once
from fleet_data.claims import Caller
from fleet_data.errors import Contended, VersionConflict
from fleet_data.ids import uuid7
from fleet_data.mail.compose import compose, message_id
from fleet_data.mail.mailer import Route, carry_out
from fleet_data.mail.mailers import Mailers
from fleet_data.mail.models import Addressee, Attempt, FoundMail, Mail, Sender, StoredMail
from fleet_data.mail.repository import MailJournal, MailRepository, MailTransaction

_TOOL = "mail_send"
_SHOWN_CHARS = 280
_QUOTA_S = 600.0  # the day's share comes back bit by bit


@dataclass(frozen=True, slots=True)
class MailCall:
    """One call of mail_send, or one mail of a workflow.

    Attributes:
        id: of a mail whose id had to be known before, for its unsubscribe link.
    """

    caller: Caller
    contact: UUID
    subject: str
    body: str
    draft: bool
    key: str | None = None
    html: str | None = None
    unsubscribe_url: str | None = None
    id: UUID | None = None

    @property
    def keyed(self) -> KeyedCall | None:
        """Return the call that the key names."""
        if self.key is None:
            return None
        told = [self.contact, self.subject, self.body, self.draft]
        return KeyedCall.of(self.caller.tenant, self.caller.subject, _TOOL, self.key, told)


@dataclass(frozen=True, slots=True)
class Mailed:
    """What became of a mail: sent, drafted, bounced, skipped, or unknown."""

    id: str
    state: str
    route: str
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Post:
    """The mail of every tenant; each call says on whose behalf.

    Attributes:
        per_day: most mails of one tenant in 24 hours, those of campaigns included.
    """

    store: MailRepository
    mailers: Mailers
    per_day: int

    async def plan(self, call: MailCall) -> Plan | None:
        """Return what sending would do; None for a draft, and for a call that was answered before.

        Raises:
            NotFound: there is no such contact.
            Conflict: it has no address, or one that nobody may write to.
            RateLimited: the tenant has sent as many as it may in a day.
        """
        if call.draft:
            return None
        async with self.store.changing(call.caller, change_set=uuid4(), keep=False) as changes:
            told = await changes.records.answered(call.keyed) if call.keyed else None
            if told is not None and (await changes.load(UUID(told["id"]))).state != "claimed":
                return None
            to = await self._writable(changes, call)
        shown = "***" if {"email", "contact.email"} & call.caller.masks else to.email
        return Plan(
            summary=f"Send a mail to {to.name} <{shown}>",
            details={
                "subject": call.subject,
                "text": call.body[:_SHOWN_CHARS],
                "characters": str(len(call.body)),
                "from": self.mailers.sender_address,
            },
            object_version=str(to.version),
        )

    async def send(self, call: MailCall, *, planned_version: int | None = None) -> Mailed:
        """Send or draft the mail; the same key goes on with what was begun, and repeats nothing.

        Raises:
            Conflict: the contact has no address, or one that nobody may write to.
            RateLimited: the tenant has sent as many as it may in a day.
            VersionConflict: the contact is at another version than a person approved.
            Contended: another call with the same key is at work.
            FleetError: the mail has not left; repeating the call with the same key is safe.
        """
        route = await self.mailers.route(call.caller)
        if call.draft and route != "gmail":
            raise InvalidInput("draft: only a connected Gmail account keeps drafts")
        lease = uuid4()
        async with self.store.changing(call.caller, change_set=lease) as changes:
            id_, is_new = await self._begun(changes, call, route, planned_version)
            taken = await changes.take(id_, lease)
            stored = await changes.load(id_)
        if not taken:
            if stored.state == "claimed":
                raise Contended
            return _mailed(stored)
        try:
            await self._carry_out(call, stored, lease, is_new=is_new)
        except FleetError:
            async with self.store.changing(call.caller, change_set=lease) as changes:
                await changes.give_back(id_, lease)
            raise
        async with self.store.changing(call.caller, change_set=lease, keep=False) as changes:
            return _mailed(await changes.load(id_))

    async def search(self, caller: Caller, query: str, *, limit: int) -> Sequence[FoundMail]:
        """Return the newest mails of the connected mailbox that match.

        Raises:
            NotConfigured: no mailbox is connected.
        """
        return await self.mailers.mailbox(caller).search(query, limit=limit)

    async def _begun(
        self, changes: MailTransaction, call: MailCall, route: Route, planned: int | None
    ) -> tuple[UUID, bool]:
        """Return the mail of this call, and whether this call made it."""
        made: list[str] = []

        async def change() -> Any:
            to = await self._writable(changes, call)
            if planned is not None and planned != to.version:
                raise VersionConflict(expected=planned, found=to.version)
            assert to.email is not None  # noqa: S101 - _writable refuses those without
            compose(_mail(call, self._sender, uuid4(), to.email))
            made.append(
                str(await changes.insert(call.id or uuid7(), call.contact, to.email, route))
            )
            return {"id": made[0]}

        told = await (once(changes.records, call.keyed, change) if call.keyed else change())
        return UUID(told["id"]), bool(made)

    async def _carry_out(
        self, call: MailCall, stored: StoredMail, lease: UUID, *, is_new: bool
    ) -> None:
        id_ = UUID(stored.id)
        mail = _mail(call, self._sender, id_, stored.email)
        mailer = self.mailers.of(call.caller, stored.route)
        if call.draft:
            ticket = await mailer.prepare(mail, again=not is_new)
            async with self.store.changing(call.caller, change_set=lease) as changes:
                await changes.intend(id_, lease, ticket)
                await changes.settle(id_, lease, "drafted", None)
            return
        journal = MailJournal(
            self.store, call.caller, id_, lease, call.contact, call.subject, call.body
        )
        earlier = None if is_new else Attempt(stored.ticket)
        await carry_out(mailer, mail, journal, earlier)

    @property
    def _sender(self) -> Sender:
        return Sender(self.mailers.sender_address)

    async def _writable(self, changes: MailTransaction, call: MailCall) -> Addressee:
        """Return whom a call writes to, now that it may."""
        to = await changes.addressee(call.contact)
        if to.email is None:
            raise Conflict("this contact has no mail address")
        if to.is_suppressed:
            raise Conflict(
                "this address is suppressed: its owner wants no mail, or it does not take any"
            )
        if not call.draft and await changes.of_the_day() >= self.per_day:
            raise RateLimited("the mails of this day are used up", retry_after_s=_QUOTA_S)
        return to


def _mail(call: MailCall, sender: Sender, id_: UUID, to: str) -> Mail:
    return Mail(
        message_id(id_, sender),
        sender,
        to,
        call.subject,
        call.body,
        call.html,
        call.unsubscribe_url,
    )


def _mailed(stored: StoredMail) -> Mailed:
    return Mailed(stored.id, stored.state, stored.route, stored.reason)
