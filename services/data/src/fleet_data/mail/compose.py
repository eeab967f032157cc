"""From a mail to the bytes of RFC 5322, by the standard library and under its strict policy.

The policy folds and encodes headers and refuses line breaks in them, so no name or subject can add a header.
"""

from __future__ import annotations

import re
from email.errors import HeaderParseError
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from uuid import UUID

from fleet_common.errors import InvalidInput
from fleet_data.mail.models import Mail, Sender

_ADDRESS = re.compile(r"[^\s<>,;:\"()\[\]\\@]+@[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?")
_OURS = re.compile(r"<([0-9a-f]{32})@")
# No header may be longer than RFC 5322 allows a line; the names of people are not.
_MOST_NAME = 200


def message_id(id_: UUID, sender: Sender) -> str:
    """Return the Message-ID of the mail with this id, the same each time it is composed."""
    return f"<{id_.hex}@{sender.address.rpartition('@')[2]}>"


def ids_of(headers: str) -> frozenset[UUID]:
    """Return the ids of our mails that `In-Reply-To` or `References` name, and what looks like one."""
    return frozenset(UUID(hex=found) for found in _OURS.findall(headers))


def compose(mail: Mail) -> bytes:
    """Return the mail as it goes over the wire, lines ending in CRLF.

    Raises:
        InvalidInput: an address is none, or a header cannot be written.
    """
    message = EmailMessage(policy=SMTP)
    try:
        message["From"] = _address(mail.sender.address, mail.sender.name)
        message["To"] = _address(mail.to)
        message["Subject"] = mail.subject
        message["Message-ID"] = mail.message_id
        if mail.unsubscribe_url:
            message["List-Unsubscribe"] = f"<{mail.unsubscribe_url}>"
            message["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
        message.set_content(mail.text, cte="quoted-printable")
        if mail.html is not None:
            message.add_alternative(mail.html, subtype="html", cte="quoted-printable")
        return message.as_bytes()
    except (ValueError, HeaderParseError) as exc:  # the policy's own words quote the value
        raise InvalidInput("the mail cannot be written: a header has a line break in it") from exc


def _address(address: str, name: str = "") -> Address:
    if not _ADDRESS.fullmatch(address) or not address.isascii():
        raise InvalidInput("this is no address that mail can be sent to")
    return Address(display_name=name[:_MOST_NAME], addr_spec=address)
