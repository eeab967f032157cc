"""The whole way of an OAuth client, with a real client and a real authorization server.

401 → metadata of the door → metadata of the issuer → registration → code with PKCE → token for exactly this door.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastmcp import Client
from fastmcp.client.auth import OAuth

from fleet_common.testing.npm import NODE, npm_packages
from fleet_common.testing.wire import answer, modern

# The first run on a machine installs the authorization server.
pytestmark = [
    pytest.mark.timeout(400),
    pytest.mark.filterwarnings("ignore:Using in-memory token storage"),
]
HERE = Path(__file__).parent
NATIVE = {"application_type": "native"}


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_client_nobody_knows_registers_itself_and_signs_in(
    door: str, sign_in: Callable[..., OAuth], mode: Any
) -> None:
    auth = sign_in(additional_client_metadata=NATIVE)
    async with Client(door, auth=auth, mode=mode) as client:
        who = (await client.call_tool("fleet_whoami")).structured_content
        written = (await client.call_tool("note_write", {"text": "hello"})).data
    assert who is not None
    assert (who["subject"], who["tenant"], who["credential"]) == ("oauth:ada", "acme", "oauth")
    assert who["roles"] == ["sales"]
    assert who["scopes"] == ["data:read", "data:send", "data:write"]
    assert written == "acme: hello"


async def test_a_client_known_by_its_url_signs_in(door: str, sign_in: Callable[..., OAuth]) -> None:
    auth = sign_in(client_metadata_url="https://client.example/oauth.json", callback_port=8765)
    async with Client(door, auth=auth) as client:
        assert (await client.call_tool("note_get", {"note_id": "1"})).data == "first"
    assert auth.context.client_info is not None
    assert auth.context.client_info.client_id == "https://client.example/oauth.json"


@dataclass(frozen=True)
class Vendor:
    """How a client signs in: what it is known by, and where its users come back to."""

    way: str
    redirect: str


VENDORS = {
    "ChatGPT": Vendor("https://client.example/hosted.json", "https://client.example/callback"),
    "Claude": Vendor("dcr", "https://claude.ai/api/mcp/auth_callback"),
    "an editor": Vendor("dcr", "http://127.0.0.1:33418/"),
    "an editor known by its URL": Vendor(
        "https://client.example/oauth.json", "http://127.0.0.1:8765/callback"
    ),
}


@pytest.mark.parametrize("era", ["modern", "legacy"])
@pytest.mark.parametrize("vendor", VENDORS)
async def test_the_official_typescript_clients_sign_in_as_vendors_do(
    door: str, vendor: str, era: str
) -> None:
    packages = await asyncio.to_thread(npm_packages, HERE.parent / "npm" / "package.json")
    words = [str(packages), era, door, VENDORS[vendor].way, VENDORS[vendor].redirect]
    process = await asyncio.create_subprocess_exec(
        NODE, HERE / "sign_in.mjs", *words, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    printed, complaint = await process.communicate()
    assert process.returncode == 0, complaint.decode()
    found = json.loads(printed)
    assert found["who"]["subject"] == "oauth:ada"
    assert found["who"]["scopes"] == ["data:read", "data:send", "data:write"]
    assert VENDORS[vendor].way in {found["clientId"], "dcr"}


async def test_a_token_for_another_door_stays_outside(door: str, provider: Any) -> None:
    async with httpx.AsyncClient() as client:
        token = await provider.token(client, f"{door}x", "data:read")
        assert (await call(client, door, token)).status_code == 401


async def test_an_opaque_token_is_asked_about(door: str, provider: Any) -> None:
    async with httpx.AsyncClient() as client:
        token = await provider.token(client, door, "data:read", client_id="opaque")
        assert "." not in token
        who = answer(await call(client, door, token))["result"]["structuredContent"]
        assert (who["subject"], who["tenant"]) == ("oauth:opaque", "acme")
        elsewhere = await provider.token(client, f"{door}x", "data:read", client_id="opaque")
        assert (await call(client, door, elsewhere)).status_code == 401


async def test_keys_rotate_under_load_and_no_call_fails(door: str, provider: Any) -> None:
    statuses: list[int] = []
    ends = time.monotonic() + 6

    async def caller(client: httpx.AsyncClient) -> None:
        while time.monotonic() < ends:
            token = await provider.token(client, door, "data:read")
            statuses.extend([(await call(client, door, token)).status_code for _ in range(3)])

    async with httpx.AsyncClient(timeout=30) as client, asyncio.TaskGroup() as group:
        callers = [group.create_task(caller(client)) for _ in range(4)]
        for _ in range(4):
            await asyncio.sleep(1.2)
            await provider.rotate(client)
        await asyncio.wait(callers)
    assert len(statuses) > 20
    assert set(statuses) == {200}


async def call(client: httpx.AsyncClient, door: str, token: str) -> httpx.Response:
    request = modern("tools/call", "fleet_whoami")
    headers = request["headers"] | {"authorization": f"Bearer {token}"}
    response = await client.post(door, json=request["json"], headers=headers)
    if response.status_code == 200:
        assert "result" in answer(response)
    return response
