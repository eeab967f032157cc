"""Campaigns from draft to unsubscription, through an MCP client, on a real database and the emulated Gmail."""

from __future__ import annotations

import json
from collections import Counter
from email import message_from_string
from email.policy import default
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest
from fastmcp import Client
from fastmcp.exceptions import ToolError
from starlette.applications import Starlette

from fleet_common.testing import wait_until
from fleet_data.campaigns.replies import LOOK_S, Replies, job_of
from fleet_data.claims import Caller
from fleet_data.jobs.models import Lease
from fleet_data.pool import Database

SEGMENT = "00000000-0000-7000-8000-00000000000a"
BODY = "Hello {{ first_name | default('there', true) }}\n{{ unsubscribe_url }}"


pytestmark = pytest.mark.timeout(30)  # each waits for the worker, which waits for what failed


async def call(client: Client[Any], tool: str, **arguments: Any) -> Any:
    return (await client.call_tool(tool, arguments)).structured_content


async def draft(client: Client[Any], **more: Any) -> str:
    told = {
        "name": "Spring",
        "segment_id": SEGMENT,
        "from_name": "News",
        "subject": "Hi {{ first_name }}",
    }
    made = await call(client, "campaign_draft", **{**told, "body": BODY, **more})
    return str(made["id"])


async def ended(client: Client[Any], id_: str, state: str = "done") -> Any:
    async def is_there() -> bool:
        return bool((await call(client, "campaign_stats", campaign_id=id_))["state"] == state)

    await wait_until(is_there, within_s=20)
    return await call(client, "campaign_stats", campaign_id=id_)


async def test_a_campaign_reaches_everybody_it_may_once(
    talk: Any, people: Any, mailbox: Any, admin_connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    await people(12)
    # Answers get lost, before and after Gmail acted, and its quota runs out: nobody gets two mails or none.
    await mailbox.fail(
        drafts_create=[None, "drop_after"], drafts_send=[None, "drop_after", "drop_before"]
    )
    async with talk() as (client, asked):
        id_ = await draft(client, template="welcome")
        preview = await client.call_tool("campaign_preview", {"campaign_id": id_, "sample": 1})
        checks = preview.structured_content["checks"]
        assert (checks["segment"], checks["reached"]) == (14, 12)
        assert checks["blocked"] == {"no_address": 1, "no_consent": 1}
        assert checks["without_value"] == {"first_name": 1}
        (shown,) = json.loads(preview.content[0].text)["rows"]
        assert shown[0].startswith("<untrusted>Hi ")
        assert shown[2] is None
        arguments = {"campaign_id": id_, "max_per_minute": 6000, "idempotency_key": "send-0001"}
        await call(client, "campaign_send", **arguments)
        assert asked[0].startswith(
            "Send the campaign “Spring” to 12 contacts\nsubject: Hi {{ first_name }}"
        )
        stats = await ended(client, id_)
        assert stats["counts"] == {"sent": 12}
        await call(client, "campaign_send", **arguments)
        assert len(asked) == 1
        with pytest.raises(ToolError, match="no draft any more"):
            await call(client, "campaign_send", campaign_id=id_)
    sent = await mailbox.sent()
    assert Counter(mail["to"] for mail in sent) == {f"p{n}@example.org": 1 for n in range(1, 13)}
    assert await mailbox.drafts() == 0
    mails = {mail["to"]: message_from_string(mail["raw"], policy=default) for mail in sent}
    assert mails["p2@example.org"]["Subject"] == "Hi Person2"
    assert mails["p1@example.org"].get_content().startswith("Hello there")
    assert mails["p2@example.org"]["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    logged = await admin_connection.fetch(
        "SELECT before->>'state' AS state FROM store.change_log WHERE object = 'campaign' ORDER BY id"
    )
    assert [row["state"] for row in logged] == [None, "draft", "sending"]


async def test_a_campaign_can_be_paused_changed_in_audience_and_cancelled(
    talk: Any, people: Any, mailbox: Any, database: Database, demo: Caller
) -> None:
    await people(8)
    async with talk() as (client, _):
        id_ = await draft(client)
        await call(client, "campaign_send", campaign_id=id_, max_per_minute=30)
        paused = await call(client, "campaign_control", campaign_id=id_, action="pause")
        assert paused["state"] == "paused"
        again = await call(client, "campaign_control", campaign_id=id_, action="pause")
        assert again["version"] == paused["version"]
        before = len(await mailbox.sent())
        # Whoever asks for no more mail while the campaign waits gets none.
        async with database.writing(demo) as connection:
            left = await connection.fetchval(
                "INSERT INTO store.suppressions (tenant, id, address, channel, reason, created_by, updated_by) "
                "SELECT 'demo', gen_random_uuid(), email, 'email', 'manual', 't', 't' FROM store.campaign_recipients "
                "WHERE state = 'queued' LIMIT 1 RETURNING address"
            )
        await call(client, "campaign_control", campaign_id=id_, action="resume")
        with pytest.raises(ToolError, match="cannot resume"):
            await call(
                client,
                "campaign_control",
                campaign_id=await draft(client, name="B"),
                action="resume",
            )
        await call(client, "campaign_control", campaign_id=id_, action="cancel")
        stats = await ended(client, id_, "cancelled")

        async def is_settled() -> bool:
            counts = (await call(client, "campaign_stats", campaign_id=id_))["counts"]
            return not {"queued", "claimed"} & counts.keys()

        await wait_until(is_settled)
        stats = await call(client, "campaign_stats", campaign_id=id_)
    sent = [mail["to"] for mail in await mailbox.sent()]
    assert len(sent) == stats["counts"].get("sent", 0) >= before
    assert stats["counts"]["skipped"] == 8 - len(sent)
    assert left not in sent
    assert await mailbox.drafts() == 0


async def test_what_the_operator_must_do_is_said_and_pauses_the_campaign(
    talk: Any, people: Any, mailbox: Any
) -> None:
    await people(3)
    async with talk() as (client, _):
        id_ = await draft(client)
        await mailbox.fail(drafts_create=[401])
        await call(client, "campaign_send", campaign_id=id_, max_per_minute=6000)
        stats = await ended(client, id_, "paused")
        assert "does not accept the connected account" in stats["reason"]
        await call(client, "campaign_control", campaign_id=id_, action="resume")
        assert (await ended(client, id_))["counts"] == {"sent": 3}


async def test_nothing_is_sent_before_the_operator_has_set_mail_up(talk: Any, people: Any) -> None:
    await people(1)
    async with talk(unsubscribe_url=None) as (client, _):
        with pytest.raises(ToolError, match="FLEET_DATA_UNSUBSCRIBE_URL"):
            await call(client, "campaign_send", campaign_id=await draft(client, name="B"))
    async with talk(mail_from=None) as (client, _):
        with pytest.raises(ToolError, match="mail is off"):
            await call(client, "campaign_send", campaign_id=await draft(client, name="C"))


async def test_a_draft_is_checked_kept_as_a_template_and_sent_when_it_says(
    talk: Any, people: Any, admin_connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    await people(1)
    async with talk() as (client, _):
        id_ = await draft(client, template="welcome", idempotency_key="draft-001")
        assert await draft(client, template="welcome", idempotency_key="draft-001") == id_
        again = await call(
            client, "campaign_draft", name="Summer", segment_id=SEGMENT, from_name="News",
            template="welcome", campaign_id=id_, send_at="2030-01-01T09:00:00+01:00",
        )  # fmt: skip
        assert (again["id"], again["version"], again["would_reach"]) == (id_, 2, 1)
        for wrong, message in (
            ({"body": "no way out"}, "unsubscribe_url"),
            ({"body": "{{ 7 * 7 }}{{ unsubscribe_url }}"}, "mul is not allowed"),
            ({"segment_id": id_}, "segment .* not found"),
            ({"body": "", "template": "nothing"}, "template .* not found"),
        ):
            with pytest.raises(ToolError, match=message):
                await draft(client, name="X", **wrong)
        await call(client, "campaign_send", campaign_id=id_)
        for action in ("pause", "resume"):
            await call(client, "campaign_control", campaign_id=id_, action=action)
        due = await admin_connection.fetchval(
            "SELECT due_at AT TIME ZONE 'UTC' FROM store.jobs WHERE kind = 'campaign'"
        )
        assert due.isoformat() == "2030-01-01T08:00:00"


async def test_one_click_ends_such_mail_for_good(
    talk: Any, people: Any, mailbox: Any, admin_connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    await people(2)
    async with talk() as (client, _):
        await call(
            client, "campaign_send", campaign_id=(id_ := await draft(client)), max_per_minute=6000
        )
        await ended(client, id_)
        deps = client.transport.server._lifespan_result["deps"]
        mail = message_from_string((await mailbox.sent())[0]["raw"], policy=default)
        link = httpx.URL(mail["List-Unsubscribe"].strip("<>"))
        app = served(deps)
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="https://x"
        ) as http:
            asked = await http.get(link.path)
            assert (asked.status_code, "<form" in asked.text) == (200, True)
            assert "script" not in asked.headers["content-security-policy"]
            blocked = "SELECT address FROM store.suppressions"
            assert await admin_connection.fetch(blocked) == []
            for _ in range(2):
                done = await http.post(link.path, data={"List-Unsubscribe": "One-Click"})
                assert done.status_code == 200
            assert (await http.post(link.path[:-2] + "xx")).status_code == 404
            assert [row["address"] for row in await admin_connection.fetch(blocked)] == [mail["To"]]
        stats = await call(client, "campaign_stats", campaign_id=id_)
        assert stats["counts"] == {"sent": 1, "unsubscribed": 1}
        second = await draft(client, name="Second")
        preview = await call(client, "campaign_preview", campaign_id=second)
        assert preview["checks"]["blocked"]["suppressed"] == 1


async def test_who_answers_is_recorded_whatever_the_answer_says(
    talk: Any, people: Any, mailbox: Any, database: Database, demo: Caller
) -> None:
    await people(4)
    async with talk() as (client, _):
        id_ = await draft(client)
        await call(client, "campaign_send", campaign_id=id_, max_per_minute=6000)
        await ended(client, id_)
        sent = {mail["to"]: mail["message_id"] for mail in await mailbox.sent()}
        come_in = [
            f"References: <x@y> {sent['p1@example.org']}",
            f"In-Reply-To: {sent['p1@example.org']}",
            f"In-Reply-To: {sent['p2@example.org']}\r\nAuto-Submitted: auto-replied",
            f"In-Reply-To: <{uuid4().hex}@example.com>",
            f"In-Reply-To: {sent['p3@example.org']}\r\nAuto-Submitted: no",
            "Subject: something else",
        ]
        for headers in come_in:
            raw = f"From: somebody@example.org\r\n{headers}\r\n\r\nHello"
            await mailbox.http.post("/emulator/received", content=raw)
        await mailbox.http.put("/emulator/faults", json={"page": 4})
        replies = Replies(database, client.transport.server._lifespan_result["deps"].post.mailers)
        for _ in range(2):
            assert await replies(job_of("demo"), Lease()) == LOOK_S
        stats = await call(client, "campaign_stats", campaign_id=id_)
        assert stats["counts"] == {"sent": 2, "replied": 2}
        async with database.writing(demo) as connection:
            looked = "SELECT looked_at > now() - interval '1 minute' FROM store.reply_looks"
            assert await connection.fetchval(looked)
            await connection.execute(
                "UPDATE store.campaigns SET launched_at = now() - interval '31 days'"
            )
        assert await replies(job_of("demo"), Lease()) is None


async def test_the_days_mails_are_counted_whoever_sends_them(
    talk: Any, people: Any, mailbox: Any
) -> None:
    await people(4)
    async with talk(mail_per_day=3) as (client, asked):
        asked_for = {"object": "contact", "query": "Person2", "fields": ["id"]}
        found = await client.call_tool("crm_search", asked_for)
        told = {
            "contact_id": json.loads(found.content[0].text)["rows"][0][0],
            "subject": "Offer",
            "text": "x",
            "draft": False,
        }
        assert (await call(client, "mail_send", **told))["state"] == "sent"
        id_ = await draft(client)
        await call(client, "campaign_send", campaign_id=id_, max_per_minute=6000)

        async def is_used_up() -> bool:
            return len(await mailbox.sent()) == 3

        await wait_until(is_used_up)
        with pytest.raises(ToolError, match="rate_limited: the mails of this day are used up"):
            await call(client, "mail_send", **told)
        assert len(asked) == 2  # nobody is asked about a mail that cannot leave
        drafted = await call(client, "mail_send", **{**told, "draft": True})
        assert drafted["state"] == "drafted"
        stats = await call(client, "campaign_stats", campaign_id=id_)
        assert (stats["counts"]["sent"], stats["counts"]["queued"]) == (2, 2)


def served(deps: Any) -> Starlette:
    """Return the service's own paths, as its app has them."""
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    from fleet_data.campaigns.routes import ROUTES

    (route,) = ROUTES

    async def answer(request: Request) -> Response:
        return await route.handle(request, deps)

    return Starlette(routes=[Route(route.path, answer, methods=list(route.methods))])
