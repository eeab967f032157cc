"""No tool gives a caller a row of another tenant, whatever ids and questions it is called with."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from itertools import islice, product
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from fleet_common.testing import principal
from fleet_data.claims import Caller
from fleet_data.crm.service import Crm
from fleet_data.settings import Settings

MARK = "zebra"
RECORDS: dict[str, dict[str, Any]] = {
    "company": {"name": f"{MARK} Ltd", "domain": f"{MARK}.example"},
    "contact": {"last_name": MARK, "email": f"{MARK}@example.com", "phone": "+4930123456"},
    "lead": {"name": MARK, "email": f"lead@{MARK}.example", "company_name": f"{MARK} Ltd"},
    "deal": {"name": MARK, "amount": 1},
    "activity": {"kind": "call", "subject": MARK, "occurred_at": "2026-01-01T00:00:00Z"},
    "note": {"body": MARK},
    "task": {"title": MARK},
    "segment": {"name": MARK, "kind": "static"},
}
# What an argument of a name means where any value of its type would only be refused.
NAMED = {
    "sql": "SELECT to_jsonb(c) FROM crm.contacts c",
    "stage": "qualified",
    "type": "knows",
    "query": MARK,
}
IDS = "campaign workflow segment deal lead contact change_set job".split()  # noqa: SIM905
# What shows only words of colleagues: names of campaigns and workflows, and what this very call was given.
INSIDE = {
    *("campaign_stats", "campaign_draft", "campaign_workflow_save", "campaign_workflow_test"),
    *("campaign_workflow_stats", "campaign_workflow_control", "campaign_control"),
}
LETTER = {
    "name": MARK,
    "from_name": MARK,
    "subject": MARK,
    "body": "{{ unsubscribe_url }}",
}
WORKFLOW = {
    "name": MARK,
    "definition": {
        "trigger": {"object": "contact", "on": "created"},
        "steps": [{"do": "task", "title": MARK}],
    },
}
# Where no such guess makes sense.
MEANT: dict[str, Callable[[dict[str, str]], dict[str, Any]]] = {
    "crm_get": lambda ids: {"object": "contact", "ids": [*ids.values()]},
    "crm_delete": lambda ids: {"object": "contact", "ids": [ids["contact"]]},
    "crm_history": lambda ids: {"object": "contact", "id": ids["contact"]},
    "crm_link": lambda ids: {
        "from_object": "contact",
        "from_id": ids["contact"],
        "type": "knows",
        "to_object": "deal",
        "to_id": ids["deal"],
    },
    "crm_merge": lambda ids: {
        "object": "company",
        "winner": ids["company"],
        "losers": [ids["twin"]],
    },
    "export_data": lambda _: {"object": "contact"},
    "import_data": lambda _: {"object": "note", "content": "body\nimported\n"},
    "lead_score": lambda ids: {"ids": [ids["lead"]]},
    "segment_preview": lambda ids: {"segment_id": ids["segment"]},
    "segment_members": lambda ids: {"segment_id": ids["segment"], "ids": [ids["contact"]]},
    "campaign_draft": lambda ids: {
        **LETTER,
        "campaign_id": ids["campaign"],
        "segment_id": ids["segment"],
    },
    "campaign_workflow_save": lambda ids: {**WORKFLOW, "workflow_id": ids["workflow"]},
}
# What only works with accounts elsewhere, with Redis or an audit file; whose they are is tested beside them.
OUTSIDE = {
    *("mail_send", "mail_search", "campaign_send", "campaign_control", "connector_slack_post"),
    *("connector_connect", "connector_disconnect", "connector_sync", "connector_sync_status"),
    *(
        "connector_stripe_customers",
        "connector_stripe_invoices",
        "cache_lookup",
        "fleet_audit_search",
    ),
}
_MOST_CALLS = 12  # of one tool, so that a tool of many enums does not take a minute


def choices(name: str, schema: dict[str, Any], ids: dict[str, str]) -> list[Any]:
    """Return values for one argument of a tool."""
    schema = next((one for one in schema.get("anyOf", ()) if one.get("type") != "null"), schema)
    if name == "records":
        return [[{"id": id_} for id_ in ids.values()]]
    if "enum" in schema:
        return list(schema["enum"])
    if (known := name.removesuffix("_id")) in IDS:
        return [ids[known]]
    if schema.get("format") == "uuid":
        return list(ids.values())
    number = schema.get("minimum") or 1
    plain: dict[str, Any] = {
        "array": list(ids.values()),
        "integer": number,
        "number": number,
        "boolean": False,
        "object": {},
    }
    return [plain.get(str(schema.get("type")), NAMED.get(name, ids["contact"]))]


def calls(tool: Any, ids: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Yield arguments for calls of a tool: every required one, and those that name things."""
    if tool.name in MEANT:
        yield MEANT[tool.name](ids)
    schema = tool.input_schema
    wanted = {
        name: choices(name, part, ids)
        for name, part in schema["properties"].items()
        if name in schema.get("required", ()) or name in NAMED
    }
    combined = (dict(zip(wanted, values, strict=True)) for values in product(*wanted.values()))
    yield from islice(combined, _MOST_CALLS)


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    return settings.model_copy(
        update={"files_dir": tmp_path, "unsubscribe_url": "https://x/unsubscribe"}
    )


@pytest.fixture
async def ids(connect: Any, crm: Crm, demo: Caller) -> dict[str, str]:
    """What there is in one tenant, by what it is."""
    made = {name: await crm.upsert(demo, name, [record]) for name, record in RECORDS.items()}
    ids = {name: str(each.rows[0].id) for name, each in made.items()}
    ids["change_set"] = str(made["deal"].change_set_id)
    twin = await crm.upsert(demo, "company", [{"name": f"{MARK} Limited"}])
    ids["twin"] = str(twin.rows[0].id)
    async with connect(principal("admin", tenant="demo")) as client:
        for name, tool, told in (
            ("campaign", "campaign_draft", {**LETTER, "segment_id": ids["segment"]}),
            ("workflow", "campaign_workflow_save", WORKFLOW),
        ):
            ids[name] = (await client.call_tool(tool, told)).structured_content["id"]
        exported = await client.call_tool("export_data", {"object": "contact"})
        ids["job"] = exported.structured_content["job_id"]
    return ids


@pytest.mark.timeout(60)  # every tool of the service, several times
async def test_no_tool_shows_or_changes_a_row_of_another_tenant(
    connect: Any, ids: dict[str, str], admin_connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    count = "SELECT count(*) FROM store.change_log WHERE tenant = 'demo'"
    before = await admin_connection.fetchval(count)
    async with connect(principal("admin", tenant="other")) as client:
        for tool in await client.list_tools():
            for arguments in calls(tool, ids):
                answer = await client.call_tool(tool.name, arguments, raise_on_error=False)
                text = json.dumps([part.model_dump(mode="json") for part in answer.content])
                told = json.dumps(answer.structured_content)
                asked = json.dumps(arguments)
                assert MARK in asked or MARK not in text + told, (tool.name, arguments, text)
                assert f"{MARK} L" not in text + told, (tool.name, arguments, text)
    assert await admin_connection.fetchval(count) == before

    # The very same calls are answered to whose records they are: the others were not refused for another reason. What
    # people wrote is marked as data wherever it leaves.
    answered, unmarked = set[str](), set[str]()
    async with connect(principal("admin", tenant="demo")) as client:
        tools = await client.list_tools()
        for tool in tools:
            for arguments in calls(tool, ids):
                tried = {"dry_run": True} if "dry_run" in tool.input_schema["properties"] else {}
                answer = await client.call_tool(
                    tool.name, {**arguments, **tried}, raise_on_error=False
                )
                said = json.dumps([part.model_dump(mode="json") for part in answer.content])
                if MARK in said and not {"untrusted", "instructions"} & set(
                    re.findall(r"\w+", said)
                ):
                    unmarked.add(tool.name)
                if not answer.is_error:
                    answered.add(tool.name)
                    break
    assert {tool.name for tool in tools} - answered == OUTSIDE
    assert unmarked <= INSIDE
