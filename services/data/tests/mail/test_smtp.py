"""SMTP: at most once, whatever the server does, and it is told what is not known."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session

from fleet_common.errors import Unavailable
from fleet_common.settings import SettingsError
from fleet_data.mail.mailer import carry_out
from fleet_data.mail.models import Attempt, Mail, Outcome, Sender
from fleet_data.mail.smtp import SmtpMailer, SmtpServer

MAIL = Mail("<m-1@example.com>", Sender("news@example.com"), "ada@example.org", "Hi", ".\nHello")


class Server:
    """Takes mail, and fails as `fault` says: a reply to RCPT or DATA, or a cut connection."""

    def __init__(self) -> None:
        self.fault: str | None = None
        self.taken: list[bytes] = []

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, _session: Session, envelope: Envelope, address: str, _options: Any
    ) -> str:
        if self.fault and self.fault.startswith("rcpt "):
            return self.fault.removeprefix("rcpt ")
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        if self.fault and self.fault.startswith("data "):
            return self.fault.removeprefix("data ")
        assert isinstance(envelope.content, bytes)
        self.taken.append(envelope.content)
        if self.fault == "cut":
            assert isinstance(server.transport, asyncio.WriteTransport)
            server.transport.abort()
        return "250 OK"


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
async def mailer(server: Server) -> AsyncGenerator[SmtpMailer]:
    loop = asyncio.get_running_loop()
    taking = await loop.create_server(lambda: SMTP(server, loop=loop), "127.0.0.1", 0)
    async with taking:
        port = taking.sockets[0].getsockname()[1]
        yield SmtpMailer(SmtpServer.of_url(f"smtp://127.0.0.1:{port}"), timeout_s=5)


class Notes:
    """A journal in memory."""

    def __init__(self) -> None:
        self.ticket: str | None = None
        self.outcome: Outcome | None = None

    async def intend(self, ticket: str) -> bool:
        self.ticket = ticket
        return True

    async def retract(self) -> None:
        self.ticket = None

    async def settle(self, outcome: Outcome) -> None:
        self.outcome = outcome


async def test_a_mail_is_taken_whole(mailer: SmtpMailer, server: Server) -> None:
    assert await carry_out(mailer, MAIL, Notes()) == Outcome("sent")
    (raw,) = server.taken
    assert b"Message-ID: <m-1@example.com>" in raw
    assert raw.endswith(b"\r\n\r\n.\r\nHello\r\n")


@pytest.mark.parametrize(
    ("fault", "verdict"),
    [("rcpt 550 no such user", "bounced"), ("data 554 spam", "bounced"), ("cut", "unknown")],
)
async def test_an_end_is_final(
    mailer: SmtpMailer, server: Server, fault: str, verdict: str
) -> None:
    server.fault = fault
    notes = Notes()
    assert (await carry_out(mailer, MAIL, notes)).verdict == verdict
    assert notes.outcome is not None
    assert "user" not in (notes.outcome.reason or "")
    assert len(server.taken) == (verdict == "unknown")


@pytest.mark.parametrize("fault", ["rcpt 451 later", "data 452 full", "data 421 bye"])
async def test_a_mail_that_has_not_left_for_sure_may_be_tried_again(
    mailer: SmtpMailer, server: Server, fault: str
) -> None:
    server.fault, notes = fault, Notes()
    with pytest.raises(Unavailable):
        await carry_out(mailer, MAIL, notes)
    assert notes.ticket is None
    server.fault = None
    assert (await carry_out(mailer, MAIL, notes, Attempt())).verdict == "sent"
    assert len(server.taken) == 1


async def test_a_server_that_is_away_has_taken_nothing() -> None:
    gone = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = gone.sockets[0].getsockname()[1]
    gone.close()
    await gone.wait_closed()
    with pytest.raises(Unavailable):
        await carry_out(SmtpMailer(SmtpServer("127.0.0.1", port, "none")), MAIL, Notes())


async def test_what_an_ended_process_had_begun_is_never_sent_again(
    mailer: SmtpMailer, server: Server
) -> None:
    outcome = await carry_out(mailer, MAIL, Notes(), Attempt("smtp"))
    assert outcome.verdict == "unknown"
    assert server.taken == []


def test_a_server_elsewhere_is_spoken_to_under_tls_only() -> None:
    assert SmtpServer.of_url("smtp://mail.example.com").tls == "starttls"
    secure = SmtpServer.of_url("smtps://a%40b:p%3A@mail.example.com")
    assert (secure.tls, secure.port, secure.user, secure.password) == ("implicit", 465, "a@b", "p:")
    assert SmtpServer.of_url("smtp://127.0.0.1:2525").tls == "none"
    with pytest.raises(SettingsError) as wrong:
        SmtpServer.of_url("http://user:secret@x")
    assert "secret" not in str(wrong.value)
