"""Segments through a client: who would be reached, and lists of members."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import pytest
from fastmcp.exceptions import ToolError

from fleet_common.testing import admin, viewer
from fleet_data.crm.service import Crm
from fleet_data.pool import Database

EVERYBODY = "00000000-0000-7000-8000-00000000000a"
LEADS = {"field": "lifecycle", "value": "lead"}


def rows(result: Any) -> list[list[Any]]:
    parsed: list[list[Any]] = json.loads(result.content[0].text)["rows"]
    return parsed


async def test_a_preview_counts_as_the_campaign_does(
    connect: Any, database: Database, demo: Any, people: Callable[[int], Awaitable[None]]
) -> None:
    await people(8)
    async with database.writing(demo) as connection:
        await connection.execute(
            "INSERT INTO store.suppressions (tenant, id, address, channel, reason, created_by, updated_by) "
            "SELECT 'demo', gen_random_uuid(), a, 'email', 'manual', 't', 't' "
            "FROM unnest(ARRAY['p1@example.org', 'no-consent@example.org']) a"
        )
    async with connect() as client:
        told = await client.call_tool("segment_preview", {"filter": LEADS, "sample": 2})
        facts = told.structured_content
        assert (facts["size"], facts["mailable"]) == (10, 7)
        assert facts["blocked"] == {"no_address": 1, "suppressed": 2}
        assert len(rows(told)) == 2
        named = await client.call_tool("segment_preview", {"segment_id": EVERYBODY, "sample": 0})
        assert (named.structured_content["blocked"], rows(named)) == (facts["blocked"], [])
        letter = {"subject": "Hi", "body": "{{ unsubscribe_url }}", "from_name": "Us"}
        drafted = await client.call_tool(
            "campaign_draft", {"name": "c", "segment_id": EVERYBODY, **letter}
        )
        assert drafted.structured_content["would_reach"] == facts["mailable"]
        deals = {"object": "deal", "filter": {"field": "status", "value": "open"}}
        assert (
            "mailable" not in (await client.call_tool("segment_preview", deals)).structured_content
        )
        with pytest.raises(ToolError, match="either filter or segment_id"):
            await client.call_tool("segment_preview", {})


async def test_members_come_and_go_once_each(connect: Any, crm: Crm, demo: Any) -> None:
    made = await crm.upsert(demo, "contact", [{"last_name": n} for n in ("Ada", "Grace", "Joan")])
    ids = [str(row.id) for row in made.rows]
    saved = await crm.upsert(
        demo, "segment", [{"name": "VIP", "kind": "static"}, {"name": "All", "filter": LEADS}]
    )
    vip, everybody = (str(row.id) for row in saved.rows)
    stranger = str(uuid4())
    async with connect() as client:

        async def change(**how: Any) -> dict[str, Any]:
            told = await client.call_tool("segment_members", {"segment_id": vip, **how})
            answer: dict[str, Any] = told.structured_content
            return answer

        tried = await change(ids=[*ids[:2], stranger], dry_run=True)
        assert (tried["changed"], tried["size"], tried["missing_ids"]) == (2, 2, [stranger])
        assert (await change(ids=ids[:1]))["size"] == 1  # the dry run kept nothing
        everyone = {"filter": LEADS, "idempotency_key": "everybody-1"}
        first = await change(**everyone)
        assert (first["changed"], first["unchanged"], first["size"]) == (2, 1, 3)
        assert await change(**everyone) == first
        gone = await change(ids=ids[:2], remove=True)
        assert (gone["changed"], gone["size"]) == (2, 1)
        found = await client.call_tool(
            "crm_search", {"object": "contact", "filter": {"segment": vip}, "fields": ["last_name"]}
        )
        assert rows(found) == [["Joan"]]
        for arguments, says in (
            ({"segment_id": vip}, "either ids or filter"),
            ({"segment_id": everybody, "ids": ids}, "conflict: this segment is a filter"),
            ({"segment_id": stranger, "ids": ids}, "not_found: segment"),
        ):
            with pytest.raises(ToolError, match=says):
                await client.call_tool("segment_members", arguments)
    async with connect(viewer()) as client:
        with pytest.raises(ToolError, match="unknown_tool"):
            await client.call_tool("segment_members", {"segment_id": vip, "ids": ids})
    async with connect(admin("other")) as client:
        with pytest.raises(ToolError, match="not_found: segment"):
            await client.call_tool("segment_members", {"segment_id": vip, "ids": ids})
