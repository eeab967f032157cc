"""Writing to one contact, through an MCP client, on a real database and the emulated Gmail."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastmcp import Client
from fastmcp.exceptions import ToolError

from fleet_common.testing.wire import text
from fleet_data.claims import Caller
from fleet_data.pool import Database


async def call(client: Client[Any], tool: str, **arguments: Any) -> Any:
    return (await client.call_tool(tool, arguments)).structured_content


async def contact(client: Client[Any], email: str | None) -> str:
    records = [{"last_name": "Lovelace", "first_name": "Ada", "email": email}]
    made = await client.call_tool("crm_upsert", {"object": "contact", "records": records})
    return str(json.loads(text(made))["rows"][0][2])


async def test_a_mail_is_a_draft_until_a_person_says_send(talk: Any, mailbox: Any) -> None:
    async with talk() as (client, asked):
        ada = await contact(client, "ada@example.org")
        told = {"contact_id": ada, "subject": "Offer", "text": "Dear Ada"}
        drafted = await call(client, "mail_send", **told, idempotency_key="draft-001")
        assert (drafted["state"], drafted["route"]) == ("drafted", "gmail")
        assert await call(client, "mail_send", **told, idempotency_key="draft-001") == drafted
        assert (asked, await mailbox.drafts(), await mailbox.sent()) == ([], 1, [])
        sent = await call(client, "mail_send", **told, draft=False)
        assert sent["state"] == "sent"
        assert asked[0].startswith(
            "Send a mail to Ada Lovelace <ada@example.org>\nsubject: Offer\ntext: Dear Ada\n"
        )
        assert [mail["to"] for mail in await mailbox.sent()] == ["ada@example.org"]
        search = {"object": "activity", "fields": ["kind", "subject", "contact_id"]}
        logged = await client.call_tool("crm_search", search)
        rows = json.loads(logged.content[0].text)["rows"]
        assert rows == [["email", "<untrusted>Offer</untrusted>", ada]]
        found = await client.call_tool("mail_search", {"query": "offer"})
        assert "<untrusted>Offer</untrusted>" in json.loads(found.content[0].text)["rows"][0]


async def test_a_repeated_call_goes_on_and_sends_nothing_twice(talk: Any, mailbox: Any) -> None:
    async with talk() as (client, asked):
        ada = await contact(client, "ada@example.org")
        told = {"contact_id": ada, "subject": "Offer", "text": "x", "draft": False}
        told["idempotency_key"] = "send-0001"
        await mailbox.fail(drafts_create=["drop_after"], drafts_send=["drop_after"])
        for _ in range(2):
            with pytest.raises(ToolError, match="unavailable"):
                await call(client, "mail_send", **told)
        done = await call(client, "mail_send", **told)
        assert done["state"] == "sent"
        assert await call(client, "mail_send", **told) == done
        assert len(asked) == 3
        assert len(await mailbox.sent()) == 1
        assert await mailbox.drafts() == 0
        with pytest.raises(ToolError, match="idempotency_key was used"):
            await call(client, "mail_send", **{**told, "text": "y"})


async def test_nobody_is_written_to_who_cannot_or_must_not_be(
    talk: Any, mailbox: Any, database: Database, demo: Caller
) -> None:
    async with talk() as (client, asked):
        silent, gone = await contact(client, None), await contact(client, "gone@example.org")
        async with database.writing(demo) as connection:
            await connection.execute(
                "INSERT INTO store.suppressions (tenant, id, address, channel, reason, created_by, updated_by) "
                "VALUES ('demo', gen_random_uuid(), 'gone@example.org', 'email', 'manual', 't', 't')"
            )
        for id_, message in ((silent, "no mail address"), (gone, "suppressed")):
            for draft in (True, False):
                with pytest.raises(ToolError, match=message):
                    await call(
                        client, "mail_send", contact_id=id_, subject="x", text="x", draft=draft
                    )
    assert (asked, await mailbox.sent(), await mailbox.drafts()) == ([], [], 0)
    async with database.writing(demo) as connection:
        await connection.execute("DELETE FROM store.accounts")
    async with talk(google=False, smtp_url="smtp://127.0.0.1:1") as (client, _):
        ada = await contact(client, "ada@example.org")
        told = {"contact_id": ada, "subject": "x", "text": "x"}
        with pytest.raises(ToolError, match="draft"):
            await call(client, "mail_send", **told)
        with pytest.raises(ToolError, match="unavailable"):
            await call(client, "mail_send", **told, draft=False)
        with pytest.raises(ToolError, match="google"):
            await call(client, "mail_search", query="x")
