"""A deletion through the gateway: asked in the client, or approved on the page and at a terminal."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any, Literal, Protocol

import httpx
import pytest
from fastmcp import Client
from fastmcp.client.client import CallToolResult
from fastmcp.client.elicitation import ElicitResult
from fastmcp.client.transports import StreamableHttpTransport

from fleet_cli.secrets import read_approver_key
from fleet_cli.state import State
from fleet_common.testing.terminal import at_a_terminal
from fleet_common.testing.wire import text

pytestmark = pytest.mark.blocking

Era = Literal["auto", "legacy"]


class Fleet(Protocol):
    """What the fixture `fleet` gives (see conftest.py)."""

    project: Path
    urls: dict[str, str]
    key: str

    def origin(self, service: str) -> str: ...


async def yes(message: str, *_: Any) -> ElicitResult[Any]:
    assert message.startswith("Delete the note")
    return ElicitResult(action="accept", content={"approve": True})


def connect(fleet: Fleet, era: Era) -> Client[Any]:
    transport = StreamableHttpTransport(fleet.urls["gateway"], auth=fleet.key)
    return Client(transport, mode=era, elicitation_handler=yes)


async def make_note(client: Client[Any]) -> str:
    note = {"object": "note", "records": [{"body": "to be deleted"}]}
    made = await client.call_tool("crm_upsert", note)
    return str(json.loads(text(made))["rows"][0][2])


async def delete(client: Client[Any], note: str) -> CallToolResult:
    arguments = {"object": "note", "ids": [note], "if_version": 1}
    result: CallToolResult = await client.call_tool("crm_delete", arguments, raise_on_error=False)
    return result


async def test_a_modern_client_asks_its_user(fleet: Fleet) -> None:
    async with connect(fleet, "auto") as client:
        note = await make_note(client)
        deleted = await delete(client, note)
        assert json.loads(text(deleted))["rows"] == [[note, "deleted", 2]]
        assert text(await delete(client, note)).startswith("not_found:")


async def test_a_tool_behind_the_search_asks_too(fleet: Fleet) -> None:
    url = f"{fleet.urls['gateway']}?mode=search"
    transport = StreamableHttpTransport(url, auth=fleet.key)
    async with connect(fleet, "auto") as client:
        note = await make_note(client)
    async with Client(transport, elicitation_handler=yes) as client:
        call = {"name": "crm_delete", "arguments": {"object": "note", "ids": [note]}}
        deleted = await client.call_tool("fleet_call_tool", call)
        assert note in text(deleted)


async def test_over_plain_http_it_is_approved_elsewhere(fleet: Fleet) -> None:
    async with connect(fleet, "auto") as client:
        note = await make_note(client)
    headers = {"authorization": f"Bearer {fleet.key}"}
    async with httpx.AsyncClient(base_url=fleet.origin("gateway"), headers=headers) as http:
        call = {"object": "note", "ids": [note]}
        asked = await http.post("/api/tools/crm_delete", json=call)
        assert asked.status_code == 428, asked.text
        id_ = re.search(r"fleet approve (\w+)", asked.text)
        assert id_ is not None
        assert approve(fleet.project, id_[1], answer="y")[0] == 0
        assert (await http.post("/api/tools/crm_delete", json=call)).status_code == 200


async def test_an_older_client_says_where_to_approve_and_the_page_does_it(fleet: Fleet) -> None:
    async with connect(fleet, "legacy") as client:
        note = await make_note(client)
        url = re.search(r"to open (\S+),", text(await delete(client, note)))
        assert url is not None
        assert url[1].startswith(f"{fleet.origin('gateway')}/approve/")
        async with httpx.AsyncClient() as browser:
            key = read_approver_key(State(fleet.project))
            page = await browser.post(url[1], data={"key": str(key)})
            assert f"Delete the note {note}" in page.text
            ticket = re.search(r'name="ticket" value="([^"]+)"', page.text)
            assert ticket is not None
            form = {"ticket": ticket[1], "verdict": "approved"}
            assert "Approved" in (await browser.post(url[1], data=form)).text
        assert (await delete(client, note)).structured_content is not None


async def test_a_person_at_a_terminal_does_it_too(fleet: Fleet) -> None:
    async with connect(fleet, "legacy") as client:
        note = await make_note(client)
        asked = re.search(r"`fleet approve (\w+)`", text(await delete(client, note)))
        assert asked is not None
        status, shown = approve(fleet.project, asked[1], answer="y")
        assert (status, f"Delete the note {note}" in shown) == (0, True), shown
        assert (await delete(client, note)).structured_content is not None


async def test_the_agents_own_key_approves_nothing(fleet: Fleet) -> None:
    async with connect(fleet, "legacy") as client:
        asked = re.search(
            r"`fleet approve (\w+)`", text(await delete(client, await make_note(client)))
        )
    assert asked is not None
    url = f"{fleet.origin('gateway')}/approve/{asked[1]}"
    headers = {"authorization": f"Bearer {fleet.key}", "accept": "application/json"}
    async with httpx.AsyncClient(headers=headers) as http:
        refused = await http.post(url, json={"verdict": "approved", "nonce": "x"})
    assert refused.status_code == 403


def approve(project: Path, id_: str, *, answer: str) -> tuple[int, str]:
    """Run `fleet approve ID` as a person does."""
    command = [sys.executable, "-m", "fleet_cli", "--project", str(project), "approve", id_]
    return at_a_terminal(command, answer=answer)
