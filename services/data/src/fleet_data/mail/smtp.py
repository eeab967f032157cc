"""SMTP, at most once: from the moment the message is handed over until the server says yes, nobody knows.

One connection a mail: it costs milliseconds, and the end of one mail is never mistaken for that of another.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal
from urllib.parse import unquote, urlsplit

import aiosmtplib
import structlog

from fleet_common.deadline import remaining
from fleet_common.errors import NotConfigured, Unavailable
from fleet_common.settings import SettingsError
from fleet_data.mail.compose import compose
from fleet_data.mail.mailer import Route
from fleet_data.mail.models import Mail, Outcome

log = structlog.get_logger()

_ANSWER_S = 60.0  # RFC 5321, section 4.5.3.2 wants minutes; a campaign has other mails to send
_QUIT_S = 1.0
_TICKET = "smtp"


@dataclass(frozen=True, slots=True)
class SmtpServer:
    """A server that takes mail from us.

    Attributes:
        tls: from the first byte, by STARTTLS, or none, which only a loopback address may have.
    """

    host: str
    port: int
    tls: Literal["implicit", "starttls", "none"]
    user: str | None = None
    password: str | None = None

    @classmethod
    def of_url(cls, url: str) -> SmtpServer:
        """Return the server of `smtps://user:password@host`, or of `smtp://…`, which asks for STARTTLS.

        Raises:
            SettingsError: it is no such URL; the text does not repeat it.
        """
        parts = urlsplit(url)
        if parts.scheme not in {"smtp", "smtps"} or not parts.hostname:
            raise SettingsError("FLEET_DATA_SMTP_URL: want smtps://user:password@host[:port]")
        is_local = parts.hostname in {"127.0.0.1", "::1", "localhost"}
        tls: Literal["implicit", "starttls", "none"] = "none" if is_local else "starttls"
        if parts.scheme == "smtps":
            tls = "implicit"
        return cls(
            parts.hostname,
            parts.port or (465 if tls == "implicit" else 587),
            tls,
            unquote(parts.username) if parts.username else None,
            unquote(parts.password) if parts.password else None,
        )


class SmtpMailer:
    """Sends through one server."""

    route: Route = "smtp"
    resumes = False

    def __init__(self, server: SmtpServer, *, timeout_s: float = _ANSWER_S) -> None:
        self._server = server
        self._timeout_s = timeout_s

    async def prepare(self, mail: Mail, *, again: bool) -> str:  # noqa: ARG002 - the port's; nothing is left behind here
        """Check that the mail can be written.

        Raises:
            InvalidInput: it cannot.
        """
        compose(mail)
        return _TICKET

    async def deliver(self, mail: Mail, ticket: str) -> Outcome:  # noqa: ARG002 - the port's
        """Hand the mail over; `unknown` when the connection is lost once the server has begun to take it.

        Raises:
            Unavailable: the server is away or asks to come back; the mail has not left.
            NotConfigured: the server refuses our name and password.
        """
        message = compose(mail)
        async with self._session() as smtp:
            try:
                await smtp.mail(mail.sender.address)
                await smtp.rcpt(mail.to)
            except aiosmtplib.SMTPResponseException as exc:
                return _refused(exc)
            except (aiosmtplib.SMTPException, OSError) as exc:
                raise Unavailable("the mail server") from exc
            return await _hand_over(smtp, message)

    async def discard(self, ticket: str) -> bool:  # noqa: ARG002 - the port's; nothing is left behind here
        """Return that nothing has left: this is asked before the mail is handed over."""
        return True

    @asynccontextmanager
    async def _session(self) -> AsyncGenerator[aiosmtplib.SMTP]:
        smtp = await self._client()
        try:
            try:
                await smtp.connect()
            except aiosmtplib.SMTPAuthenticationError as exc:
                raise NotConfigured("the mail server refuses our name and password") from exc
            except (aiosmtplib.SMTPException, OSError, ValueError) as exc:
                raise Unavailable("the mail server") from exc
            yield smtp
        finally:
            smtp.close()

    async def _client(self) -> aiosmtplib.SMTP:
        server = self._server
        context = None if server.tls == "none" else await asyncio.to_thread(_tls)
        return aiosmtplib.SMTP(
            hostname=server.host,
            port=server.port,
            username=server.user,
            password=server.password,
            use_tls=server.tls == "implicit",
            start_tls=server.tls == "starttls",
            tls_context=context,
            local_hostname="localhost",  # asking the resolver for our own name blocks, and no server uses it
            timeout=remaining(self._timeout_s),
        )


async def _hand_over(smtp: aiosmtplib.SMTP, message: bytes) -> Outcome:
    """Send DATA and the message; from here on a lost connection tells nothing."""
    try:
        await smtp.data(message)
    except aiosmtplib.SMTPDataError as exc:
        return _refused(exc)
    except (aiosmtplib.SMTPException, OSError, ValueError):
        log.info("mail_outcome_unknown", exc_info=True)
        return Outcome("unknown", "the connection was lost while the mail was handed over")
    with suppress(aiosmtplib.SMTPException, OSError):
        await smtp.quit(timeout=_QUIT_S)
    return Outcome("sent")


def _refused(exc: aiosmtplib.SMTPResponseException) -> Outcome:
    """Return that the mail was refused for good.

    Raises:
        Unavailable: the server asks to come back (RFC 5321, section 4.2.1: 4yz).
    """
    if 400 <= exc.code < 500:
        raise Unavailable("the mail server", retry_after_s=60.0) from exc
    return Outcome("bounced", f"the mail server refused it with {exc.code}")


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    return ssl.create_default_context()
