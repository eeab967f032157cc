"""Which way the mail of a tenant leaves: its Google account if it connected one, else the operator's SMTP server."""

from __future__ import annotations

from dataclasses import dataclass

from fleet_common.errors import NotConfigured
from fleet_data.claims import Caller
from fleet_data.connectors.errors import NotConnected
from fleet_data.mail.gmail import Accounts, GmailMailer
from fleet_data.mail.mailer import Mailer, Route
from fleet_data.mail.smtp import SmtpMailer


@dataclass(frozen=True, slots=True)
class Mailers:
    """What the operator has set up.

    Attributes:
        address: whom all mail is from; None means that mail is off.
        accounts: the Google accounts of the tenants.
        smtp: None without a server.
    """

    address: str | None
    accounts: Accounts
    smtp: SmtpMailer | None

    async def route(self, caller: Caller) -> Route:
        """Return how mail of the caller's tenant leaves.

        Raises:
            NotConfigured: it cannot; a tenant whose Google account is gone does not change to SMTP unasked.
        """
        _ = self.sender_address
        try:
            await self.accounts.account("google", caller)
        except NotConnected:
            if self.smtp is None:
                raise
            return "smtp"
        return "gmail"

    def of(self, caller: Caller, route: Route) -> Mailer:
        """Return the mailer of a route.

        Raises:
            NotConfigured: the operator took it away.
        """
        if route == "gmail":
            return self.mailbox(caller)
        if self.smtp is None:
            raise NotConfigured("there is no SMTP server any more")
        return self.smtp

    def mailbox(self, caller: Caller) -> GmailMailer:
        """Return the mailbox that the caller's tenant connected."""
        return GmailMailer(self.accounts, caller)

    @property
    def sender_address(self) -> str:
        """Return whom mail is from.

        Raises:
            NotConfigured: mail is off.
        """
        if self.address is None:
            raise NotConfigured("mail is off", hint="The operator sets FLEET_DATA_MAIL_FROM")
        return self.address
