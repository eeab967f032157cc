"""Gmail by drafts: each failure between two steps, and the mailbox afterwards."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from email import message_from_string
from email.policy import default
from typing import Any
from uuid import uuid4

import httpx
import pytest

from fleet_common.errors import (
    FleetError,
    RateLimited,
    Unavailable,
)
from fleet_common.http import RetryPolicy, open_client
from fleet_data.claims import Caller
from fleet_data.connectors.errors import ConsentWithdrawn
from fleet_data.connectors.models import Account
from fleet_data.mail.gmail import GmailMailer
from fleet_data.mail.mailer import carry_out
from fleet_data.mail.models import Attempt, Mail, Outcome, Sender

MAIL = Mail(
    message_id="<m-1@example.com>",
    sender=Sender("news@example.com", "News"),
    to="ada@example.org",
    subject="Hello",
    text="Hello Ada",
    unsubscribe_url="https://example.com/unsubscribe/x",
)
DEMO = Caller("demo", "key:test")


@dataclass
class Notebook:
    """A journal in memory; `ticket` is what a process that begins anew would find."""

    ticket: str | None = None
    outcome: Outcome | None = None
    wanted: bool = True
    steps: list[str] = field(default_factory=list)

    async def intend(self, ticket: str) -> bool:
        self.steps.append("intend")
        self.ticket = ticket if self.wanted else None
        return self.wanted

    async def retract(self) -> None:
        self.steps.append("retract")
        self.ticket = None

    async def settle(self, outcome: Outcome) -> None:
        self.outcome = outcome


class OneAccount:
    """A connected mailbox."""

    def __init__(self, http: httpx.AsyncClient, token: str, address: str) -> None:
        self.http = http
        self.token = token
        self.address = address

    @asynccontextmanager
    async def session(
        self, provider: str, caller: Caller, *scopes: str
    ) -> AsyncGenerator[httpx.AsyncClient]:
        self.http.headers["Authorization"] = f"Bearer {self.token}"
        yield self.http

    async def account(self, provider: str, caller: Caller) -> Account:
        who = self.address
        return Account(uuid4(), provider, "", who, who, (), "", "key:x", None)


# Any: the fixture `mailbox` is a class of the conftest, which tests do not import.
@pytest.fixture
async def account(mailbox: Any) -> AsyncGenerator[OneAccount]:
    once = RetryPolicy(attempts=1)
    async with open_client(name="gmail", base_url=mailbox.url, retry=once) as http:
        yield OneAccount(http, mailbox.token, "news@example.com")


@pytest.fixture
def mailer(account: OneAccount) -> GmailMailer:
    return GmailMailer(account, DEMO)


async def test_a_mail_leaves_as_it_was_written(mailer: GmailMailer, mailbox: Any) -> None:
    notes = Notebook()
    assert await carry_out(mailer, MAIL, notes) == notes.outcome == Outcome("sent")
    (sent,) = await mailbox.sent()
    read = message_from_string(sent["raw"], policy=default)
    assert read["List-Unsubscribe"] == f"<{MAIL.unsubscribe_url}>"
    assert read["Message-ID"] == MAIL.message_id
    assert await mailbox.drafts() == 0


@pytest.mark.parametrize(
    "faults",
    [
        {"drafts_create": ["drop_after"]},
        {"drafts_create": ["drop_before"]},
        {"drafts_create": [429]},
        {"drafts_create": [403]},
        {"drafts_create": [500]},
        {"drafts_send": ["drop_after"]},
        {"drafts_send": ["drop_before"]},
        {"drafts_send": [429]},
        {"drafts_send": [500]},
        {"drafts_send": ["drop_before", "drop_after"]},
        {"drafts_create": ["drop_after"], "drafts_list": [500], "drafts_send": ["drop_after"]},
    ],
    ids=str,
)
async def test_after_any_failure_the_next_attempts_send_it_exactly_once(
    mailer: GmailMailer, mailbox: Any, faults: dict[str, list[Any]]
) -> None:
    await mailbox.fail(**faults)
    notes, failures = Notebook(), 0
    while notes.outcome is None:
        earlier = Attempt(notes.ticket) if failures else None
        try:
            await carry_out(mailer, MAIL, notes, earlier)
        except FleetError:
            failures += 1
    assert failures == sum(map(len, faults.values()))
    assert notes.outcome.verdict == "sent"
    assert [mail["message_id"] for mail in await mailbox.sent()] == [MAIL.message_id]
    assert await mailbox.drafts() == 0


async def test_what_is_not_wanted_any_more_leaves_no_draft(
    mailer: GmailMailer, mailbox: Any
) -> None:
    outcome = await carry_out(mailer, MAIL, Notebook(wanted=False))
    assert outcome.verdict == "skipped"
    assert (await mailbox.sent(), await mailbox.drafts()) == ([], 0)


async def test_a_draft_of_another_mailbox_that_is_gone_proves_nothing(
    mailer: GmailMailer, account: OneAccount, mailbox: Any
) -> None:
    ticket = await mailer.prepare(MAIL, again=False)
    account.token, account.address = f"{mailbox.token}-2", "other@example.com"
    told = await carry_out(mailer, MAIL, Notebook(), Attempt(ticket))
    assert told.verdict == "unknown"
    account.token, account.address = mailbox.token, "news@example.com"
    for _ in range(2):
        told = await carry_out(mailer, MAIL, Notebook(), Attempt(ticket))
        assert told.verdict == "sent"
    assert len(await mailbox.sent()) == 1


async def test_refusals_say_what_to_do(
    mailer: GmailMailer, account: OneAccount, mailbox: Any
) -> None:
    bad = await carry_out(mailer, replace(MAIL, to="nobody"), Notebook())
    assert bad.verdict == "bounced"
    await mailbox.fail(drafts_create=[400], drafts_send=[400])
    assert (await carry_out(mailer, MAIL, Notebook())).verdict == "bounced"
    assert (await carry_out(mailer, MAIL, Notebook())).verdict == "bounced"
    await mailbox.fail(per_minute=100)
    with pytest.raises(RateLimited) as limited:
        await carry_out(mailer, MAIL, Notebook())
    assert limited.value.retry_after_s == 60
    await mailbox.fail(messages_list=[503, 403, 418])
    for error in (Unavailable, RateLimited):
        with pytest.raises(error):
            await mailer.search("x", limit=1)
    account.token = "revoked"
    with pytest.raises(ConsentWithdrawn):
        await mailer.search("x", limit=1)


async def test_the_mailbox_is_searched_newest_first(mailer: GmailMailer) -> None:
    for number in range(3):
        mail = replace(MAIL, subject=f"Offer {number}", message_id=f"<m-{number}@example.com>")
        await carry_out(mailer, mail, Notebook())
    found = await mailer.search("offer", limit=2)
    assert [mail.subject for mail in found] == ["Offer 2", "Offer 1"]
    assert found[0].to == "ada@example.org"
    assert found[0].snippet == "Hello Ada"
