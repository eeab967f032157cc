"""A campaign whose worker is killed -9 again and again: over Gmail each is mailed exactly once, over SMTP none twice.

`CAMPAIGN_RECIPIENTS=5000 CAMPAIGN_KILLS=10 pytest -m chaos tests/chaos/outreach/test_campaigns.py -s` is the whole
proof.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from fleet_data.campaigns.models import Draft, Letter
from fleet_data.campaigns.service import SendCall
from fleet_data.claims import Caller

RECIPIENTS = int(os.environ.get("CAMPAIGN_RECIPIENTS", "200"))
KILLS = int(os.environ.get("CAMPAIGN_KILLS", "3"))
DEMO = Caller("demo", "key:marketer")
SEGMENT = UUID("00000000-0000-7000-8000-00000000000a")
LETTER = Letter("Hello {{ first_name }}", "Hello {{ first_name }}\n{{ unsubscribe_url }}")
EVERYBODY = f"""
INSERT INTO store.segments (tenant, id, name, object, kind, filter, created_by, updated_by)
VALUES ('demo', '{SEGMENT}', 'All', 'contact', 'filter', '{{"field":"lifecycle","value":"lead"}}', 't', 't');
"""


async def send_under_fire(
    site: Any, sent: Callable[[], Awaitable[int]]
) -> tuple[dict[str, str], int]:
    """Launch a campaign, kill its worker at random counts, and return what became of each address."""
    kill_at = sorted(random.Random(7).sample(range(1, RECIPIENTS), KILLS))
    await site.fill(RECIPIENTS)
    async with site.opened() as (database, outreach):
        async with database.writing(DEMO) as connection:
            await connection.execute(EVERYBODY)
        campaigns = outreach.campaigns
        drafted = await campaigns.draft(DEMO, Draft("Spring", SEGMENT, "News", LETTER))
        await campaigns.send(SendCall(DEMO, UUID(drafted.id), max_per_minute=6000))

        async def is_done() -> bool:
            stats, _ = await campaigns.stats(DEMO, UUID(drafted.id))
            return bool(stats.state == "done")

        await site.killed(kill_at, sent, is_done)
        async with database.writing(DEMO, keep=False) as connection:
            rows = await connection.fetch("SELECT email, state FROM store.campaign_recipients")
        _, listed = await campaigns.stats(DEMO, UUID(drafted.id), most=RECIPIENTS)
    return {row["email"]: row["state"] for row in rows}, len(listed)


async def test_over_gmail_each_is_mailed_exactly_once(site: Any, gmail: Any) -> None:
    site = site.told(**gmail.settings)
    await site.connect_mailbox(gmail.token)
    faults = await gmail.fail(RECIPIENTS)
    began = time.monotonic()
    states, _ = await send_under_fire(site, gmail.count)
    sent = await gmail.sent()
    print(
        f"\ngmail: {len(sent)} of {RECIPIENTS} mailed, most to one {max(sent.values())}, "
        f"states {dict(Counter(states.values()))}, {KILLS} kills, {faults} faults, "
        f"{time.monotonic() - began:.0f} s"
    )
    assert sent == dict.fromkeys(states, 1)
    assert len(sent) == RECIPIENTS
    assert set(states.values()) == {"sent"}


async def test_over_smtp_none_is_mailed_twice_and_every_doubt_is_listed(
    site: Any, inbox: Any
) -> None:
    began = time.monotonic()
    states, listed = await send_under_fire(site.told(smtp_url=inbox.url), inbox.count)
    taken = inbox.taken
    doubts = {email for email, state in states.items() if state == "unknown"}
    print(
        f"\nsmtp: {len(taken)} of {RECIPIENTS} mailed, most to one {max(taken.values())}, "
        f"{len(doubts)} unknown and listed ({len(doubts & taken.keys())} of them had arrived), "
        f"{KILLS} kills, {inbox.cut} connections cut, {time.monotonic() - began:.0f} s"
    )
    assert max(taken.values()) == 1
    assert {email for email, state in states.items() if state == "sent"} | doubts == states.keys()
    assert states.keys() - taken.keys() <= doubts
    assert listed == len(doubts) >= inbox.cut
