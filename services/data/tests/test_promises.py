"""What holds for every tool that changes records: a dry run tells what happens, and undoing gives back what was."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from fastmcp import Client
from fastmcp.client.elicitation import ElicitResult

from fleet_common.mcp.server import create_server
from fleet_common.testing import admin
from fleet_common.testing.wire import text
from fleet_data.server import SERVICE
from fleet_data.settings import Settings

Arguments = Callable[["World"], dict[str, Any]]


@dataclass(frozen=True)
class World:
    """Records to change, by what they are called here, and a change set to undo."""

    ids: dict[str, str]
    change_set: str


RECORDS: dict[str, tuple[str, dict[str, Any]]] = {
    "acme": ("company", {"name": "Acme", "domain": "acme.example"}),
    "twin": ("company", {"name": "Acme Ltd", "phone": "+4930123456"}),
    "ada": ("contact", {"last_name": "Lovelace", "email": "ada@acme.example"}),
    "lead": ("lead", {"name": "Grace", "email": "grace@navy.example", "company_name": "Navy"}),
    "deal": ("deal", {"name": "Engine", "amount": 1000}),
    "list": ("segment", {"name": "VIP", "object": "contact", "kind": "static"}),
}
PROMISED: dict[str, Arguments] = {
    "crm_upsert": lambda world: {
        "object": "contact",
        "records": [
            {"id": world.ids["ada"], "title": "CTO"},
            {"last_name": "New", "email": "new@acme.example"},
            {"id": world.ids["ada"], "email": "no address"},
        ],
    },
    "crm_delete": lambda world: {"object": "contact", "ids": [world.ids["ada"]]},
    "crm_undo": lambda world: {"change_set_id": world.change_set},
    "crm_link": lambda world: {
        "from_object": "contact",
        "from_id": world.ids["ada"],
        "type": "adviser",
        "to_object": "deal",
        "to_id": world.ids["deal"],
    },
    "crm_merge": lambda world: {
        "object": "company",
        "winner": world.ids["acme"],
        "losers": [world.ids["twin"]],
    },
    "crm_deal_move": lambda world: {
        "deal_id": world.ids["deal"],
        "stage": "lost",
        "reason": "too dear",
    },
    "lead_convert": lambda world: {"lead_id": world.ids["lead"], "amount": 5},
    "import_data": lambda _: {
        "object": "company",
        "content": "name,domain\nAcme Inc,acme.example\nNavy,navy.example\nBad,bad\n",
        "match_on": "domain",
    },
}
# What changes no record, so that there is nothing to undo, and why.
OTHERS = {
    "export_data": "makes a file",
    "export_status": "is about a file",
    "cache_invalidate": "what is kept is a copy",
    "lead_model": "a model is a version beside the others",
    "mail_send": "what has left cannot come back; a person agreed",
    "campaign_draft": "a draft is changed by drafting again",
    "campaign_send": "what has left cannot come back; a person agreed",
    "campaign_control": "has an opposite, but for cancelling",
    "campaign_workflow_save": "a workflow is changed by saving again",
    "campaign_workflow_control": "has an opposite",
    "connector_connect": "an account is disconnected",
    "connector_disconnect": "consent that was given back must be given anew; a person agreed",
    "connector_slack_post": "what was said is said; a person agreed",
    "connector_sync": "changes the other side as well; its own tests hold its dry run to what happens",
}
LIVE = "companies contacts leads deals activities notes tasks links properties segments consents suppressions".split()  # noqa: SIM905
# Of records that are there.
PLAIN = {
    "deal_stage_history": "deals",
    "lead_status_history": "leads",
    "segment_members": "segments",
}
OWN = "{version,created_at,created_by,updated_at,updated_by,added_at,entered_at}"
KNOWN_AFTER = {
    "change_set_id",
    "dry_run",
    "job_id",
    "state",
    "url",
    "expires_at",
    "detail",
    "version",
    "id",
}
UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@pytest.fixture
def settings(settings: Settings, tmp_path: Path) -> Settings:
    return settings.model_copy(update={"files_dir": tmp_path / "files"})


@pytest.fixture
async def client(settings: Settings) -> AsyncGenerator[Client[Any]]:
    async def say_yes(*_: Any) -> ElicitResult[Any]:
        return ElicitResult(action="accept", content={"approve": True})

    server = create_server(SERVICE, settings, local_principal=admin())
    async with Client(server, elicitation_handler=say_yes) as client:
        yield client


@pytest.fixture
async def world(client: Client[Any]) -> World:
    ids = {}
    for name, (object_, record) in RECORDS.items():
        made = await client.call_tool("crm_upsert", {"object": object_, "records": [record]})
        ids[name] = json.loads(text(made))["rows"][0][2]
    moved = await call(client, "crm_deal_move", {"deal_id": ids["deal"], "stage": "qualified"})
    return World(ids, moved.structured_content["change_set_id"])


async def snapshot(connection: asyncpg.Connection[asyncpg.Record]) -> dict[str, list[str]]:
    """Return all records, but for who changed them last, when and how often."""
    found = {}
    for table in [*LIVE, *PLAIN]:
        live = "WHERE deleted_at IS NULL"
        if table in PLAIN:
            live = f"JOIN store.{PLAIN[table]} p ON p.id = t.{PLAIN[table][:-1]}_id AND p.deleted_at IS NULL"
        row = f"(to_jsonb(t) - '{OWN}'::text[])::text"
        sql = f"SELECT {row} AS row FROM store.{table} t {live} ORDER BY 1"
        found[table] = [each["row"] for each in await connection.fetch(sql)]
    return found


def told(answer: Any, world: World) -> Any:
    """Return what an answer says has happened, without what only one of both kinds of call can know."""
    facts = {n: value for n, value in answer.structured_content.items() if n not in KNOWN_AFTER}
    for part in answer.content:
        if part.type == "text" and "columns" in (table := json.loads(part.text)):
            kept = [n for n, each in enumerate(table["columns"]) if each not in KNOWN_AFTER]
            facts["rows"] = [[row[n] for n in kept] for row in table["rows"]]
    # A dry run has no ids for what it would make.
    facts |= {n: "new" for n, value in facts.items() if n.endswith("_id") and not value}
    known = {*world.ids.values(), world.change_set}
    return json.loads(UUID.sub(lambda id_: id_[0] if id_[0] in known else "new", json.dumps(facts)))


# Any: what a tool answers is what the tests look at.
async def call(client: Client[Any], tool: str, arguments: dict[str, Any]) -> Any:
    return await client.call_tool(tool, arguments)


async def undo(client: Client[Any], done: Any) -> None:
    await call(client, "crm_undo", {"change_set_id": done.structured_content["change_set_id"]})


async def test_every_tool_that_changes_something_is_held_to_this(client: Client[Any]) -> None:
    tools = await client.list_tools()
    changing = {t.name for t in tools if t.annotations and not t.annotations.read_only_hint}
    assert changing == {*PROMISED, "segment_members", "lead_score", *OTHERS}
    tried = {tool.name for tool in tools if "dry_run" in tool.input_schema["properties"]}
    assert tried == {*PROMISED, "segment_members", "connector_sync"}


@pytest.mark.timeout(30)  # every tool, three times
async def test_a_dry_run_tells_what_happens_and_undoing_gives_back_what_was(
    client: Client[Any], world: World, admin_connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    before = await snapshot(admin_connection)
    for tool, arguments in PROMISED.items():
        asked = arguments(world)
        tried = await call(client, tool, {**asked, "dry_run": True})
        assert await snapshot(admin_connection) == before, f"{tool} changed something in a dry run"
        done = await call(client, tool, asked)
        assert await snapshot(admin_connection) != before, tool
        assert told(tried, world) == told(done, world), tool
        await undo(client, done)
        assert await snapshot(admin_connection) == before, tool


async def test_what_has_no_dry_run_or_no_change_set_is_undone_all_the_same(
    client: Client[Any], world: World, admin_connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    before = await snapshot(admin_connection)
    scored = {"ids": [world.ids["lead"]]}
    asked = await call(client, "lead_score", scored)
    assert await snapshot(admin_connection) == before
    done = await call(client, "lead_score", {**scored, "write": True})
    assert told(asked, world) == told(done, world)
    assert await snapshot(admin_connection) != before
    await undo(client, done)
    assert await snapshot(admin_connection) == before

    members = {"segment_id": world.ids["list"], "ids": [world.ids["ada"]]}
    tried = await call(client, "segment_members", {**members, "dry_run": True})
    assert await snapshot(admin_connection) == before
    done = await call(client, "segment_members", members)
    assert told(tried, world) == told(done, world)
    assert await snapshot(admin_connection) != before
    await call(client, "segment_members", {**members, "remove": True})
    assert await snapshot(admin_connection) == before
