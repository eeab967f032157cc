"""crm_delete from the outside: a person is asked, over stdio and over HTTP, on real engines."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import pytest
from fastmcp import Client
from fastmcp.client.auth import BearerAuth
from fastmcp.client.client import CallToolResult
from fastmcp.client.elicitation import ElicitResult
from fastmcp.client.transports import StdioTransport, StreamableHttpTransport
from starlette.applications import Starlette

from fleet_common.approvals import Approvals, Approver
from fleet_common.auth.keys import KeyFile
from fleet_common.mcp.app import create_app
from fleet_common.redis import create_redis
from fleet_common.testing import serving
from fleet_common.testing.wire import text
from fleet_data.server import SERVICE
from fleet_data.settings import Settings

Era = Literal["auto", "legacy"]


@pytest.fixture(params=["auto", "legacy"])
def era(request: pytest.FixtureRequest) -> Era:
    return "auto" if request.param == "auto" else "legacy"


@pytest.fixture
def key(tmp_path: Path) -> str:
    """A salesperson's key."""
    return KeyFile(tmp_path / "keys.json").create(name="x", roles=["sales"], tenant="demo").text


@pytest.fixture
def served(settings: Settings, redis_url: str, tmp_path: Path, key: str) -> Settings:
    """Settings of a service that can be called from outside."""
    told = {
        **{name: getattr(settings, name) for name in ("database_url", "reader_url", "claims_key")},
        "keys_file": tmp_path / "keys.json",
        "redis_url": redis_url,
        "approvals_key": uuid4().hex,
        "stdio_key": key,
    }
    return Settings.model_validate(told)


@pytest.fixture
def app(served: Settings) -> Starlette:
    """The service; made before there is a loop, because what runs tasks reads files when it is first imported."""
    return create_app(SERVICE, served)


class Person:
    """Answers what it is asked, and remembers the question."""

    def __init__(self, *, says_yes: bool) -> None:
        self.asked: list[str] = []
        self.says_yes = says_yes

    async def __call__(self, message: str, *_: Any) -> ElicitResult[Any]:
        self.asked.append(message)
        return ElicitResult(action="accept", content={"approve": self.says_yes})


@asynccontextmanager
async def stdio(settings: Settings, era: Era, person: Person) -> AsyncGenerator[Client[Any]]:
    """Yield a client that has started the service as its own process."""
    told = {
        f"FLEET_DATA_{name.upper()}": value.get_secret_value()
        for name in ("database_url", "reader_url", "claims_key", "stdio_key")
        if (value := getattr(settings, name))
    }
    told["FLEET_DATA_KEYS_FILE"] = str(settings.keys_file)
    transport = StdioTransport(
        sys.executable, ["-m", "fleet_data", "stdio"], env=told, keep_alive=False
    )
    async with Client(transport, mode=era, elicitation_handler=person) as client:
        yield client


async def make_note(client: Client[Any]) -> str:
    """Create a note and return its id."""
    made = await client.call_tool("crm_upsert", {"object": "note", "records": [{"body": "x"}]})
    return str(json.loads(text(made))["rows"][0][2])


async def delete(client: Client[Any], id_: str, **more: Any) -> CallToolResult:
    arguments = {"object": "note", "ids": [id_], **more}
    result: CallToolResult = await client.call_tool("crm_delete", arguments, raise_on_error=False)
    return result


async def is_there(client: Client[Any], id_: str) -> bool:
    got = await client.call_tool("crm_get", {"object": "note", "ids": [id_]})
    assert got.structured_content is not None
    return not got.structured_content["missing_ids"]


@pytest.mark.timeout(30)  # starts a process
async def test_on_stdio_the_user_is_asked_in_the_client(served: Settings, era: Era) -> None:
    person = Person(says_yes=False)
    async with stdio(served, era, person) as client:
        note = await make_note(client)
        for says_yes in (False, True):
            person.says_yes = says_yes
            result = await delete(client, note)
            assert result.is_error is not says_yes
            assert await is_there(client, note) is not says_yes
    question = f"Delete the note {note}\nid: {note}\nversion: 1"
    assert [asked.startswith(question) for asked in person.asked] == [True, True]


async def test_over_http_it_is_approved_out_of_band_in_the_handshake_era(
    app: Starlette, served: Settings, key: str
) -> None:
    redis = create_redis(str(served.redis_url.get_secret_value() if served.redis_url else ""))
    async with (
        serving(app) as url,
        Client(
            StreamableHttpTransport(f"{url}/mcp", auth=BearerAuth(key)), mode="legacy"
        ) as client,
    ):
        note = await make_note(client)
        asked = await delete(client, note, idempotency_key="key-0001")
        assert asked.meta is not None
        desk = Approvals.create(served, redis).desk
        assert desk is not None
        request = await desk.find("demo", asked.meta["fleet/error"]["approval"]["id"])
        assert request is not None
        await desk.decide(request, Approver("demo", "key:boss"), "approved")
        done = await delete(client, note, idempotency_key="key-0001")
        assert json.loads(text(done))["rows"] == [[note, "deleted", 2]]
        again = await delete(client, note, idempotency_key="key-0001")
        assert again.structured_content == done.structured_content
        assert (await delete(client, note)).is_error
    await redis.aclose(close_connection_pool=True)
