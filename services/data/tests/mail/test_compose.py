"""Mails as bytes: what a mail client reads back, and what no name or subject can do."""

from __future__ import annotations

from dataclasses import replace
from email import message_from_bytes
from email.policy import default
from uuid import UUID

import pytest

from fleet_common.errors import InvalidInput
from fleet_data.mail.compose import compose, message_id
from fleet_data.mail.models import Mail, Sender

SENDER = Sender("news@example.com", "Grüße & Co, “Ltd”")
MAIL = Mail(
    message_id=message_id(UUID(int=7), SENDER),
    sender=SENDER,
    to="ada@example.org",
    subject="Für dich: 20 % 🎉 " + "lang " * 40 + "!",
    text="Hallo Ada,\n.\nFrom here\n" + "x" * 2000,
    html="<p>Hallo Ada</p>",
    unsubscribe_url="https://fleet.example.com/unsubscribe/abc." + "d" * 120,
)


def test_a_mail_reads_back_as_it_was_written() -> None:
    raw = compose(MAIL)
    read = message_from_bytes(raw, policy=default)
    assert read["From"].addresses[0].display_name == SENDER.name
    assert (read["To"], read["Subject"]) == (MAIL.to, MAIL.subject)
    assert read["Message-ID"] == f"<{UUID(int=7).hex}@example.com>"
    plain, html = read.get_body(("plain",)), read.get_body(("html",))
    assert plain is not None
    assert html is not None
    assert plain.get_content().splitlines() == MAIL.text.splitlines()
    assert html.get_content() == "<p>Hallo Ada</p>\r\n"
    assert raw.isascii()
    assert max(map(len, raw.split(b"\r\n"))) <= 998
    assert b"\n" not in raw.replace(b"\r\n", b"")


def test_a_mail_to_many_can_be_unsubscribed_from_with_one_click() -> None:
    read = message_from_bytes(compose(MAIL), policy=default)
    assert read["List-Unsubscribe"].replace(" ", "") == f"<{MAIL.unsubscribe_url}>"
    assert read["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    alone = message_from_bytes(compose(replace(MAIL, unsubscribe_url=None)), policy=default)
    assert "List-Unsubscribe" not in alone


@pytest.mark.parametrize(
    "change",
    [
        {"subject": "Hello\r\nBcc: everybody@example.com"},
        {"subject": "Hello\nBcc: everybody@example.com"},
        {"to": "ada@example.org\r\nBcc: x@example.com"},
        {"to": "ada@example.org, bob@example.org"},
        {"to": "<ada@example.org>"},
        {"to": "ada"},
        {"to": "ada@münchen.example"},
        {"sender": Sender("news@example.com", "News\r\nBcc: x@example.com")},
        {"unsubscribe_url": "https://example.com/\r\nBcc: x@example.com"},
    ],
    ids=repr,
)
def test_nothing_adds_a_header_or_a_recipient(change: dict[str, object]) -> None:
    # Any: mypy cannot see which field the key names.
    with pytest.raises(InvalidInput) as refused:
        compose(replace(MAIL, **change))  # type: ignore[arg-type]
    assert "x@example.com" not in str(refused.value)
