"""The sync as callers have it: tools, the worker behind them, and HubSpot's webhooks."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest
from fastmcp import Client
from fastmcp.client.elicitation import ElicitResult
from fastmcp.exceptions import ToolError

from fleet_common.mcp.app import create_app
from fleet_common.mcp.server import create_server
from fleet_common.testing import admin, wait_until
from fleet_common.testing.http import serving
from fleet_common.testing.webhooks import hubspot_headers
from fleet_data.claims import Caller
from fleet_data.crm.service import Crm
from fleet_data.server import SERVICE
from fleet_data.settings import Settings

Rows = Callable[[str], Awaitable[list[dict[str, Any]]]]
Talk = Callable[..., AbstractAsyncContextManager[tuple[Client[Any], list[str]]]]
OLD, NEW = "the-old-client-secret", "the-new-client-secret"
HOOK = "https://fleet.example.com/webhooks/hubspot"


@pytest.fixture
async def wired(settings: Settings, portal: Any, connected: Any) -> Settings:
    """Settings of a service whose tenant demo connected this test's account."""
    number = (await portal.state())["portal"]
    await connected("hubspot", token=portal.token, external_id=str(number))
    told = {
        "connector_clients": "hubspot=id:secret",
        "connector_urls": f"hubspot={portal.url}",
        "tasks_redelivery_s": 3.0,
    }
    return Settings.model_validate({**settings.model_dump(), **told})


@pytest.fixture
def talk(wired: Settings) -> Talk:
    """Opens a client whose user says yes, and who remembers what was asked."""

    @asynccontextmanager
    async def open_client() -> AsyncGenerator[tuple[Client[Any], list[str]]]:
        asked: list[str] = []

        async def say_yes(message: str, *_: Any) -> ElicitResult[Any]:
            asked.append(message)
            return ElicitResult(action="accept", content={"approve": True})

        server = create_server(SERVICE, wired, local_principal=admin())
        async with Client(server, elicitation_handler=say_yes) as client:
            yield client, asked

    return open_client


async def call(client: Client[Any], tool: str, **arguments: Any) -> Any:
    result = await client.call_tool(tool, {"name": "hubspot", **arguments})
    return result.structured_content


async def test_a_sync_is_tried_approved_followed_and_reported(
    talk: Talk, portal: Any, crm: Crm, demo: Caller
) -> None:
    await crm.upsert(demo, "contact", [{"last_name": "Here", "email": "h@x.com", "city": "Bern"}])
    await portal.fill("contacts", [{"email": "h@x.com", "lastname": "There"}, {"email": "t@x.com"}])
    async with talk() as (client, asked):
        tried = await call(client, "connector_sync", dry_run=True)
        assert (tried["state"], tried["counts"]["would_push_created"], asked) == ("dry_run", 1, [])
        assert tried["counts"]["pulled_created"] == 1
        assert len(await portal.records("contacts")) == 2

        begun = await call(client, "connector_sync", idempotency_key="first-sync")
        again = await call(client, "connector_sync", idempotency_key="first-sync")
        assert again["sync_id"] == begun["sync_id"]
        assert "Write 1 records to HubSpot" in asked[0]

        async def is_done() -> bool:
            return bool((await call(client, "connector_sync_status"))["state"] == "done")

        await wait_until(is_done)
        shown = await client.call_tool("connector_sync_status", {"name": "hubspot", "limit": 1})
        assert shown.structured_content is not None
        text = json.loads(shown.content[0].text)  # type: ignore[union-attr]  # a table is text
        (row,) = [dict(zip(text["columns"], row, strict=True)) for row in text["rows"]]
        assert (row["kind"], row["winner"]) == ("conflict", "hubspot")
        assert row["fields"].startswith("<untrusted>{'last_name'")
        assert text["waiting"] == {"company": 0, "contact": 0, "deal": 0}


async def test_one_sync_at_a_time_and_none_without_an_account(wired: Settings, desk: Any) -> None:
    await desk.start()
    idle = Settings.model_validate({**wired.model_dump(), "tasks_worker": False})
    async with Client(create_server(SERVICE, idle, local_principal=admin())) as client:
        with pytest.raises(ToolError, match=r"^conflict: a sync with HubSpot is under way"):
            await call(client, "connector_sync", direction="pull")
        with pytest.raises(ToolError, match="the cursor is not one of this tool"):
            await call(client, "connector_sync_status", cursor="abc")
    stranger = replace(admin(), tenant="other")
    async with Client(create_server(SERVICE, idle, local_principal=stranger)) as client:
        with pytest.raises(ToolError, match="not_connected: no hubspot account is connected"):
            await call(client, "connector_sync", direction="pull")


@pytest.fixture
async def door(wired: Settings, redis_url: str, tmp_path: Any) -> AsyncGenerator[httpx.AsyncClient]:
    """The service with its webhooks open."""
    more = {
        "redis_url": redis_url,
        "keys_file": tmp_path / "keys.json",
        "hubspot_webhook_secrets": f"{OLD},{NEW}",
        "hubspot_webhook_url": HOOK,
    }
    chosen = Settings.model_validate({**wired.model_dump(), **more})
    app = await asyncio.to_thread(create_app, SERVICE, chosen)
    async with serving(app) as url, httpx.AsyncClient(base_url=url) as client:
        yield client


def event(portal: int, object_id: str, kind: str, **more: Any) -> dict[str, Any]:
    return {"portalId": portal, "objectId": int(object_id), "subscriptionType": kind,
            "eventId": object_id, "attemptNumber": 0, **more}  # fmt: skip


async def test_a_signed_event_makes_the_record_be_read_anew_and_says_nothing_of_it(
    door: httpx.AsyncClient, portal: Any, rows: Rows
) -> None:
    ada, bob, eve = await portal.fill(
        "contacts", [{"email": f"{n}@x.com", "lastname": n} for n in ("ada", "bob", "eve")]
    )
    (acme,) = await portal.fill("companies", [{"name": "Acme"}])
    number = (await portal.state())["portal"]

    async def send(events: Any, secret: str, **signed: Any) -> int:
        body = json.dumps(events).encode()
        headers = hubspot_headers(body, secret, url=signed.pop("url", HOOK), **signed)
        return (await door.post("/webhooks/hubspot", content=body, headers=headers)).status_code

    lie = event(
        number, ada, "contact.propertyChange", propertyName="lastname", propertyValue="Evil"
    )
    other = event(number, acme, "object.creation", objectTypeId="0-2")
    assert await send([lie, other], OLD) == 200
    assert await send([event(number, bob, "contact.creation")], NEW) == 200
    old_ms = int(time.time() * 1000) - 301_000
    forged = event(number, eve, "contact.creation")
    assert await send([forged], "another-secret-of-16") == 401
    assert await send([forged], NEW, at_ms=old_ms) == 401
    assert await send([forged], NEW, url="https://evil.example.com/") == 401
    assert await send([event(number + 1, eve, "contact.creation")], NEW) == 200  # nobody's account
    assert await send({"objectId": 1}, NEW) == 400

    async def are_there() -> bool:
        found = await rows("SELECT last_name FROM store.contacts ORDER BY 1")
        named = [row["last_name"] for row in found]
        return named == ["ada", "bob"] and not await rows("SELECT FROM store.sync_inbox")

    await wait_until(are_there)
    assert await rows("SELECT name FROM store.companies") == [{"name": "Acme"}]
    reads = (await portal.state())["calls"]["batch.read"]
    repeated = {**lie, "attemptNumber": 1}
    assert await send([repeated, other], OLD) == 200
    assert await rows("SELECT FROM store.sync_inbox") == []
    assert (await portal.state())["calls"]["batch.read"] == reads


async def test_an_event_about_a_deleted_record_reports_it(desk: Any, portal: Any) -> None:
    (gone,) = await portal.fill("contacts", [{"email": "a@x.com", "lastname": "A"}])
    await desk.run(direction="pull")
    await portal.http.post(
        "/crm/v3/objects/contacts/batch/archive", json={"inputs": [{"id": gone}]}
    )
    await desk.hear(contact=[gone])
    (issue,) = await desk.issues()
    assert (issue["kind"], issue["external_id"]) == ("deleted_there", gone)
