"""A workflow whose worker is killed -9 again and again: each step's effect happens once.

Over SMTP a mail that may or may not have left is listed as unknown, and never sent again. A webhook is called again
with the same key when its answer was lost: who is called can tell.

`WORKFLOW_CONTACTS=1000 WORKFLOW_KILLS=10 pytest -m chaos tests/chaos/outreach/test_workflows.py -s` is the whole proof.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections import Counter
from typing import Any
from uuid import UUID

import pytest

from fleet_common.testing.upstream import status, upstream_server
from fleet_data.claims import Caller
from fleet_data.workflows.models import Definition

CONTACTS = int(os.environ.get("WORKFLOW_CONTACTS", "60"))
KILLS = int(os.environ.get("WORKFLOW_KILLS", "3"))
DEMO = Caller("demo", "key:marketer")
WORKFLOW = Definition.model_validate(
    {
        "trigger": {"object": "contact", "on": "created"},
        "steps": [
            {"do": "task", "title": "Call"},
            {"do": "stage", "to": "qualified"},
            {"do": "score", "add": 30},
            {"do": "webhook", "name": "erp"},
            {"do": "mail", "template": "welcome", "from_name": "News"},
        ],
    }
)
TEMPLATE = """
INSERT INTO store.templates (tenant, id, name, subject, body, created_by, updated_by)
VALUES ('demo', gen_random_uuid(), 'welcome', 'Hi {{ first_name }}', 'Hello {{ unsubscribe_url }}', 't', 't')
"""
LEADS = """
INSERT INTO store.leads (tenant, id, name, email, source, status, score, created_by, updated_by)
SELECT tenant, gen_random_uuid(), last_name, email, 'web', 'new', 10, 't', 't' FROM store.contacts
"""
# What a worker had in its hands when it died is another's after two minutes; nobody waits for that here.
HURRY = """
WITH mails AS (
    UPDATE store.mails SET claimed_at = '-infinity' WHERE state = 'claimed' AND claimed_at < now() - interval '10 s'
)
UPDATE store.workflow_runs SET due_at = now() WHERE state = 'open'
"""
EFFECTS = """
SELECT
    (SELECT array_agg(n ORDER BY n) FROM (SELECT DISTINCT count(t.id) AS n FROM store.contacts c
        LEFT JOIN store.tasks t ON t.contact_id = c.id GROUP BY c.id) q) AS tasks,
    (SELECT array_agg(n ORDER BY n) FROM (SELECT DISTINCT count(l.id) AS n FROM store.contacts c
        LEFT JOIN store.change_log l ON l.record_id = c.id AND l.before ? 'lifecycle' GROUP BY c.id) q) AS moves,
    (SELECT array_agg(DISTINCT lifecycle) FROM store.contacts) AS stages,
    (SELECT array_agg(DISTINCT score) FROM store.leads) AS scores,
    (SELECT jsonb_object_agg(state, n) FROM (SELECT state, count(*) AS n FROM store.workflow_runs GROUP BY 1) q)
        AS runs
"""


@pytest.mark.parametrize("route", ["gmail", "smtp"])
async def test_each_step_of_each_contact_has_its_effect_once(
    site: Any, gmail: Any, inbox: Any, route: str
) -> None:
    began, faults = time.monotonic(), 0
    async with upstream_server() as hook:
        hook.answer("/erp", status(200))
        site = site.told(
            workflow_webhooks=f"erp={hook.url}/erp",
            **(gmail.settings if route == "gmail" else {"smtp_url": inbox.url}),
        )
        if route == "gmail":
            await site.connect_mailbox(gmail.token)
            faults = await gmail.fail(CONTACTS)
        await walk_under_fire(site, gmail if route == "gmail" else inbox)
        async with site.opened() as (database, _), database.writing(DEMO) as connection:
            effects = dict(await connection.fetchrow(EFFECTS))
            mails = await connection.fetch("SELECT email, state FROM store.mails")
        keys = Counter(request.headers["Idempotency-Key"] for request in hook.requests)
        told = {json.loads(body)["contact_id"] for body in hook.bodies}
    sent = await gmail.sent() if route == "gmail" else inbox.taken
    unknown = {row["email"] for row in mails if row["state"] == "unknown"}
    print(
        f"\n{route}: {CONTACTS} contacts, {KILLS} kills, {faults or inbox.cut} faults: {effects}, "
        f"{len(keys)} webhooks of {keys.total()} calls, {len(sent)} mailed, most to one {max(sent.values())}, "
        f"{len(unknown)} unknown ({len(unknown & sent.keys())} had arrived), {time.monotonic() - began:.0f} s"
    )
    assert effects == {
        "tasks": [1],
        "moves": [1],
        "stages": ["qualified"],
        "scores": [40],
        "runs": {"done": CONTACTS},
    }
    assert len(keys) == len(told) == CONTACTS
    assert max(sent.values()) == 1
    assert len(sent.keys() | unknown) == CONTACTS
    assert not unknown or route == "smtp"


async def walk_under_fire(site: Any, mailbox: Any) -> None:
    """Turn the workflow on, add contacts, and kill its worker at random counts of mails until all are through."""
    kill_at = sorted(random.Random(11).sample(range(1, CONTACTS), KILLS))
    async with site.opened() as (database, outreach):

        async def run(sql: str) -> Any:
            async with database.writing(DEMO) as connection:
                return await connection.fetchval(sql)

        async def is_done() -> bool:
            await run(HURRY)
            left = "SELECT count(*) = {} AND bool_and(state <> 'open') FROM store.workflow_runs"
            return bool(await run(left.format(CONTACTS)))

        await run(TEMPLATE)
        saved = await outreach.workflows.save(DEMO, "Welcome", WORKFLOW)
        await outreach.workflows.control(DEMO, UUID(saved.id), "start")
        await site.fill(CONTACTS)
        await run(LEADS)
        await site.killed(kill_at, mailbox.count, is_done)
