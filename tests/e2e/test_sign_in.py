"""OAuth switched on for a whole fleet: people sign in at the company's authorization server, and keys go on working."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Literal, Protocol

import anyio.to_thread
import httpx
import pytest
from fastmcp import Client

from fleet_common.testing.oidc import Browser, Provider
from fleet_common.testing.waiting import wait_until
from fleet_common.testing.wire import answer, modern

pytestmark = [
    pytest.mark.blocking,
    pytest.mark.filterwarnings("ignore:Using in-memory token storage"),
]
ERAS: list[Literal["auto", "legacy"]] = ["auto", "legacy"]


class Fleet(Protocol):
    """What the fixture `fleet` gives (see conftest.py)."""

    project: Path
    urls: dict[str, str]
    key: str


@pytest.mark.parametrize(
    ("door", "era"), [("gateway", ERAS[0]), ("gateway", ERAS[1]), ("data", ERAS[0])]
)
async def test_people_sign_in(fleet: Fleet, door: str, era: Literal["auto", "legacy"]) -> None:
    assert await signed_in(fleet.urls[door], era) == ("oauth:ada", "acme", "oauth")


async def test_a_token_opens_one_door_until_it_is_revoked_and_keys_go_on_working(
    fleet: Fleet, provider: Provider
) -> None:
    gateway, data = fleet.urls["gateway"], fleet.urls["data"]
    async with httpx.AsyncClient(timeout=30) as http:
        await provider.rotate(http)
        token = await provider.token(http, gateway, "data:read")
        assert (await call(http, gateway, token)).status_code == 200
        assert (await call(http, data, token)).status_code == 401

        async def is_refused() -> bool:
            return (await call(http, gateway, token)).status_code == 401

        await anyio.to_thread.run_sync(revoke, fleet.project, "machine")
        await wait_until(is_refused)
        assert (await call(http, gateway, fleet.key)).status_code == 200


def revoke(project: Path, subject: str) -> None:
    fleet = [sys.executable, "-m", "fleet_cli", "--project", str(project)]
    words = ["token", "revoke", subject, "--subject"]
    subprocess.run([*fleet, *words], check=True, timeout=60)


async def signed_in(door: str, era: Literal["auto", "legacy"]) -> tuple[str, str, str]:
    auth = Browser(
        callback_host="127.0.0.1", additional_client_metadata={"application_type": "native"}
    )
    async with Client(door, auth=auth, mode=era) as client:
        who = (await client.call_tool("fleet_whoami")).structured_content
        found = await client.call_tool("crm_search", {"object": "contact"})
    assert who is not None
    assert not found.is_error
    return who["subject"], who["tenant"], who["credential"]


async def call(http: httpx.AsyncClient, door: str, credential: str) -> httpx.Response:
    request = modern("tools/call", "crm_search", arguments={"object": "contact"})
    headers = request["headers"] | {"authorization": f"Bearer {credential}"}
    response = await http.post(door, json=request["json"], headers=headers)
    assert response.status_code != 200 or "result" in answer(response)
    return response
