"""Nouns of mail: a message, and what became of handing it over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["sent", "unknown", "bounced", "skipped"]


@dataclass(frozen=True, slots=True)
class Sender:
    """Who mails come from.

    Attributes:
        address: the operator's, such as `news@example.com`; no caller chooses it.
        name: shown beside it.
    """

    address: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Mail:
    """One message to one person.

    Attributes:
        message_id: `<…@domain>`, ours and unique, so that a mail can be found again.
        html: the same text as HTML; None sends plain text alone.
        unsubscribe_url: where one POST ends such mail (RFC 8058); None for a mail to one person about one thing.
    """

    message_id: str
    sender: Sender
    to: str
    subject: str
    text: str
    html: str | None = None
    unsubscribe_url: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a mail.

    Attributes:
        verdict: `sent` for sure; `unknown` when the connection was lost after all of it was handed over; `bounced`
            when it was refused for good; `skipped` when it was not to be sent after all.
        reason: for people; nothing of the mail in it.
    """

    verdict: Verdict
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """How far an earlier attempt at a mail came before its process ended.

    Attributes:
        ticket: what `prepare` returned and was recorded; None when nothing was handed over yet.
    """

    ticket: str | None = None


@dataclass(frozen=True, slots=True)
class FoundMail:
    """A mail in the mailbox, as a search shows it."""

    id: str
    thread_id: str
    date: str
    sender: str
    to: str
    subject: str
    snippet: str


@dataclass(frozen=True, slots=True)
class Addressee:
    """The contact that a mail goes to."""

    name: str
    email: str | None
    version: int
    is_suppressed: bool


@dataclass(frozen=True, slots=True)
class StoredMail:
    """A mail to one person as it is in the database."""

    id: str
    email: str
    state: str
    route: Literal["gmail", "smtp"]
    ticket: str | None
    reason: str | None
