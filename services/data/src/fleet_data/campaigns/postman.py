"""The postman: sends what is left of a campaign, paced, some mails at once, each at most once.

It knows nothing between two mails: everything it must know after kill -9 is in the rows. Failures of the route, such
as a quota that is used up, put the whole campaign off; those of one mail are that mail's outcome.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

import structlog

from fleet_common.errors import FleetError
from fleet_data.campaigns.models import Campaign, Claimed
from fleet_data.campaigns.rendering import render
from fleet_data.campaigns.sending import SendingRepository
from fleet_data.campaigns.tokens import Recipient, UnsubscribeTokens
from fleet_data.claims import Caller
from fleet_data.jobs.models import Job, Lease
from fleet_data.mail.compose import message_id
from fleet_data.mail.mailer import Mailer, carry_out
from fleet_data.mail.mailers import Mailers
from fleet_data.mail.models import Attempt, Mail, Outcome, Sender

log = structlog.get_logger()

_SENDERS = 4  # a mail over Gmail is two round trips of a quarter of a second
_ATTEMPTS = 10
_QUOTA_S = 600.0  # the day's share comes back bit by bit


@dataclass(frozen=True, slots=True)
class UnsubscribeLinks:
    """Makes the link by which a recipient leaves.

    Attributes:
        base: the gateway's `/unsubscribe` as recipients reach it.
    """

    base: str
    tokens: UnsubscribeTokens

    def of(self, tenant: str, recipient: UUID) -> str:
        """Return the link of one recipient."""
        return f"{self.base.rstrip('/')}/{self.tokens.sign(Recipient(tenant, recipient))}"


class Pacer:
    """Spreads mails over the minute: one each `60 / per_minute` seconds, and no burst after a rest."""

    def __init__(self, per_minute: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._step_s = 60.0 / per_minute
        self._clock = clock
        self._next = clock()

    def wait_s(self) -> float:
        """Return how long to wait for the slot that the caller now has."""
        now = self._clock()
        slot = max(now, self._next)
        self._next = slot + self._step_s
        return slot - now


@dataclass(frozen=True, slots=True)
class Postman:
    """Sends campaigns; a `jobs.Handler`.

    Attributes:
        per_day: most mails of one tenant in 24 hours.
    """

    recipients: SendingRepository
    mailers: Mailers
    links: UnsubscribeLinks
    per_day: int

    async def __call__(self, job: Job, lease: Lease) -> float | None:
        """Send what is due; return the seconds until more is, or None when nothing is left to do."""
        begun = await self.recipients.begin(job, lease.id)
        if begun is None:
            return None
        caller, campaign = begun
        assert campaign.route is not None  # noqa: S101 - the database holds launched campaigns to it
        try:
            mailer = self.mailers.of(caller, campaign.route)
        except FleetError as exc:
            await self.recipients.pause(caller, campaign.id, exc.message)
            return None
        round_ = _Round(self, mailer, caller, campaign, lease)
        async with asyncio.TaskGroup() as group:
            for number in range(_SENDERS):
                group.create_task(round_.send(), name=f"sender-{number}")
        return await round_.end()


class _Round:
    """One turn of sending, by some senders at once."""

    def __init__(
        self, postman: Postman, mailer: Mailer, caller: Caller, campaign: Campaign, lease: Lease
    ) -> None:
        self._postman = postman
        self._recipients = postman.recipients
        self._mailer = mailer
        self._caller = caller
        self._campaign = campaign
        self._lease = lease
        self._pacer = Pacer(campaign.max_per_minute or 1)
        self._stopped_for_s: float | None = None
        self._sender = Sender(postman.mailers.sender_address, campaign.from_name)

    async def send(self) -> None:
        """Send until nothing is due, the lease is over or the route has failed."""
        try:
            while True:
                await self._lease.sleep(self._pacer.wait_s())
                if self._lease.is_over or self._stopped_for_s is not None:
                    return
                claimed = await self._recipients.claim(
                    self._caller, self._campaign.id, self._lease.id, per_day=self._postman.per_day
                )
                if claimed is None:
                    return
                await self._send_one(claimed)
        except (
            FleetError
        ) as exc:  # the database is away; what is claimed is found again by the next lease
            log.info("campaign_interrupted", campaign=str(self._campaign.id), error=exc.code)
            self._stopped_for_s = exc.retry_after_s or 1.0

    async def end(self) -> float | None:
        """Return when to come back."""
        due_in_s = await self._recipients.finish(self._caller, self._campaign.id)
        if due_in_s is None or self._lease.is_over:
            return due_in_s
        if self._stopped_for_s is None and due_in_s == 0:
            return _QUOTA_S  # something is due, and none of it could be claimed
        return max(due_in_s, self._stopped_for_s or 0.0)

    async def _send_one(self, claimed: Claimed) -> None:
        journal = _Journal(self._recipients, self._caller, claimed.id, self._lease.id)
        earlier = Attempt(claimed.ticket) if claimed.attempts > 1 else None
        try:
            if claimed.attempts > _ATTEMPTS:
                await journal.settle(_given_up(claimed))
            else:
                await carry_out(self._mailer, self._mail(claimed), journal, earlier)
        except FleetError as exc:
            log.info("mail_postponed", campaign=str(self._campaign.id), error=exc.code)
            if not exc.retryable:
                await self._recipients.pause(self._caller, self._campaign.id, exc.message)
            self._stopped_for_s = exc.retry_after_s or 1.0
            await journal.postpone(self._stopped_for_s)

    def _mail(self, claimed: Claimed) -> Mail:
        link = self._postman.links.of(self._caller.tenant, claimed.id)
        letter = render(self._campaign.letter, claimed.facts, link)
        return Mail(
            message_id=message_id(claimed.id, self._sender),
            sender=self._sender,
            to=claimed.email,
            subject=letter.subject,
            text=letter.body,
            html=letter.html,
            unsubscribe_url=link,
        )


@dataclass(frozen=True, slots=True)
class _Journal:
    """The steps of one mail, in its recipient's row."""

    recipients: SendingRepository
    caller: Caller
    recipient: UUID
    lease: UUID

    async def intend(self, ticket: str) -> bool:
        return await self.recipients.intend(self.caller, self.recipient, self.lease, ticket)

    async def retract(self) -> None:
        await self.recipients.retract(self.caller, self.recipient, self.lease)

    async def settle(self, outcome: Outcome) -> None:
        await self.recipients.settle(self.caller, self.recipient, self.lease, outcome)

    async def postpone(self, seconds: float) -> None:
        await self.recipients.postpone(self.caller, self.recipient, self.lease, seconds)


def _given_up(claimed: Claimed) -> Outcome:
    """Return the end of a mail that failed each time: unknown when it may be out."""
    reason = f"given up after {_ATTEMPTS} attempts"
    return Outcome("bounced" if claimed.ticket is None else "unknown", reason)
