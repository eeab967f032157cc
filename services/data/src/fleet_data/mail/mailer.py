"""The port that mail leaves through, and the order of steps by which none leaves twice.

`prepare` may be repeated without harm. What it returns is recorded before `deliver`, so a process that finds the
record knows that the mail may be out: Gmail can then tell (the draft is gone once it was sent), SMTP cannot.
"""

from __future__ import annotations

from typing import Literal, Protocol

from fleet_common.errors import FleetError, InvalidInput
from fleet_data.mail.models import Attempt, Mail, Outcome

Route = Literal["gmail", "smtp"]


class Mailer(Protocol):
    """Sends mail of one tenant."""

    @property
    def route(self) -> Route:
        """Return how mail leaves; what was begun on one route is not continued on another."""

    @property
    def resumes(self) -> bool:
        """Return whether `deliver` may be called again with a ticket, and then tells whether the mail had left."""

    async def prepare(self, mail: Mail, *, again: bool) -> str:
        """Return the ticket that `deliver` needs; nothing has left yet.

        Args:
            mail: what to send.
            again: an earlier attempt may have prepared it already.

        Raises:
            InvalidInput: this mail will never be taken.
        """

    async def deliver(self, mail: Mail, ticket: str) -> Outcome:
        """Hand the mail over and return what became of it.

        Raises:
            FleetError: it was not sent; when the mailer `resumes`, it may have been, and the ticket will tell.
        """

    async def discard(self, ticket: str) -> bool:
        """Take back what `prepare` made; False when it was gone, because the mail had left."""


class Journal(Protocol):
    """Where the steps of one mail are recorded."""

    async def intend(self, ticket: str) -> bool:
        """Record that the mail is about to leave; False when it must not leave after all."""

    async def retract(self) -> None:
        """Record that it has not left, so that another attempt begins anew."""

    async def settle(self, outcome: Outcome) -> None:
        """Record what became of it."""


async def carry_out(
    mailer: Mailer, mail: Mail, journal: Journal, earlier: Attempt | None = None
) -> Outcome:
    """Send the mail at most once, whatever an earlier attempt did, and return what became of it.

    Raises:
        FleetError: it has not left, or the next attempt will tell; the journal knows of no end.
    """
    outcome = await _attempt(mailer, mail, journal, earlier)
    await journal.settle(outcome)
    return outcome


async def _attempt(
    mailer: Mailer, mail: Mail, journal: Journal, earlier: Attempt | None
) -> Outcome:
    ticket = earlier.ticket if earlier else None
    if ticket is not None and not mailer.resumes:
        return Outcome("unknown", "the process ended while the mail was handed over")
    try:
        ticket = ticket or await mailer.prepare(mail, again=earlier is not None)
    except InvalidInput as exc:
        return Outcome("bounced", exc.message)
    if not await journal.intend(ticket):
        taken_back = await mailer.discard(ticket)
        return Outcome("skipped") if taken_back else Outcome("sent", "it had left before")
    try:
        return await mailer.deliver(mail, ticket)
    except FleetError:
        if not mailer.resumes:
            await journal.retract()
        raise
