"""No tool gives a caller a row of another tenant, whatever ids and questions it is called with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice, product
from typing import Any

import asyncpg
import pytest

from fleet_common.testing import principal
from fleet_data.claims import Caller
from fleet_data.crm.service import Crm

MARK = "zebra"
RECORDS: dict[str, dict[str, Any]] = {
    "company": {"name": f"{MARK} Ltd", "domain": f"{MARK}.example"},
    "contact": {"last_name": MARK, "email": f"{MARK}@example.com", "phone": "+4930123456"},
    "lead": {"name": MARK, "email": f"lead@{MARK}.example", "company_name": f"{MARK} Ltd"},
    "deal": {"name": MARK, "amount": 1},
    "activity": {"kind": "call", "subject": MARK, "occurred_at": "2026-01-01T00:00:00Z"},
    "note": {"body": MARK},
    "task": {"title": MARK},
}
# What a text should say where any text would only be refused.
TEXTS = {
    "sql": "SELECT to_jsonb(c) FROM crm.contacts c",
    "stage": "qualified",
    "type": "knows",
    "query": MARK,
    "cron": "* * * * *",
}
_MOST_CALLS = 12  # of one tool, so that a tool of many enums does not take a minute


def choices(name: str, schema: dict[str, Any], ids: list[str]) -> list[Any]:
    """Return values for one argument of a tool."""
    schema = next((one for one in schema.get("anyOf", ()) if one.get("type") != "null"), schema)
    if name == "records":
        return [[{"id": id_} for id_ in ids]]
    if "enum" in schema:
        return list(schema["enum"])
    if schema.get("format") == "uuid":
        return ids
    number = schema.get("minimum") or 1
    plain: dict[str, Any] = {
        "array": ids,
        "integer": number,
        "number": number,
        "boolean": False,
        "object": {},
    }
    return [plain.get(str(schema.get("type")), TEXTS.get(name, ids[0]))]


def calls(tool: Any, ids: list[str]) -> Iterator[dict[str, Any]]:
    """Yield arguments for calls of a tool: every required one, and those that name things."""
    schema = tool.input_schema
    wanted = {
        name: choices(name, part, ids)
        for name, part in schema["properties"].items()
        if name in schema.get("required", ()) or name in TEXTS
    }
    combined = (dict(zip(wanted, values, strict=True)) for values in product(*wanted.values()))
    yield from islice(combined, _MOST_CALLS)


@pytest.mark.timeout(60)  # every tool of the service, several times
async def test_no_tool_shows_or_changes_a_row_of_another_tenant(
    connect: Any, crm: Crm, demo: Caller, admin_connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    ids: list[str] = []
    for name, record in RECORDS.items():
        made = await crm.upsert(demo, name, [record])
        ids += [str(row.id) for row in made.rows]
        ids.append(str(made.change_set_id))
    count = "SELECT count(*) FROM store.change_log WHERE tenant = 'demo'"
    before = await admin_connection.fetchval(count)
    async with connect(principal("admin", tenant="demo")) as client:
        found = await client.call_tool("crm_search", {"object": "contact", "query": MARK})
        assert MARK in found.content[0].text
    said = 0
    async with connect(principal("admin", tenant="other")) as client:
        for tool in await client.list_tools():
            for arguments in calls(tool, ids):
                answer = await client.call_tool(tool.name, arguments, raise_on_error=False)
                text = json.dumps([part.model_dump(mode="json") for part in answer.content])
                told = json.dumps(answer.structured_content)
                asked = json.dumps(arguments)
                assert MARK in asked or MARK not in text + told, (tool.name, arguments, text)
                assert f"{MARK} Ltd" not in text + told, (tool.name, arguments, text)
                said += not answer.is_error
    assert said > 10
    assert await admin_connection.fetchval(count) == before
