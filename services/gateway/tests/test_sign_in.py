"""Signing in at the gateway with a real client and a real authorization server, and a call to a service behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest
from fastmcp import Client

from fleet_common.testing import serving
from fleet_common.testing.oidc import Browser, Provider, running_provider
from fleet_common.testing.wire import modern
from fleet_gateway.server import SERVICE, create_gateway
from fleet_gateway.settings import Settings

# The first run on a machine installs the authorization server.
pytestmark = [
    pytest.mark.timeout(400),
    pytest.mark.filterwarnings("ignore:Using in-memory token storage"),
]
SERVER = Path(__file__).parents[3] / "libs" / "common" / "tests" / "mcp" / "oidc"


class Fleet(Protocol):
    """What the fixture `fleet` gives (see conftest.py)."""

    settings: Settings


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with running_provider(SERVER) as started:
        yield started


@pytest.fixture
async def public(fleet: Fleet, provider: Provider, unused_tcp_port: int) -> AsyncGenerator[str]:
    """The URL of a gateway that trusts the server, in front of the fleet's services."""
    url = f"http://127.0.0.1:{unused_tcp_port}"
    told = {"oauth_issuer": provider.url, "public_url": url}
    app = await asyncio.to_thread(create_gateway, SERVICE, fleet.settings.model_copy(update=told))
    async with serving(app, port=unused_tcp_port):
        yield url


@pytest.mark.parametrize("era", ["auto", "legacy"])
async def test_a_client_signs_in_and_its_call_reaches_a_service(public: str, era: Any) -> None:
    for door in ("/mcp", "/data/mcp"):
        auth = Browser(
            callback_host="127.0.0.1",
            additional_client_metadata={"application_type": "native"},
        )
        async with Client(f"{public}{door}", auth=auth, mode=era) as client:
            echoed = await client.call_tool("crm_echo", {"text": "hi"})
            written = await client.call_tool("crm_write", {"text": "x"})
        assert echoed.data == {"text": "hi", "tenant": "acme", "credential": "internal"}
        assert written.data == "x"


async def test_who_brings_no_token_is_told_where_to_get_one(
    public: str, provider: Provider
) -> None:
    async with httpx.AsyncClient() as http:
        for door in ("/mcp", "/data/mcp"):
            where = f"{public}/.well-known/oauth-protected-resource{door}"
            for request in (modern("tools/list"), {"json": modern("tools/list")["json"]}):
                refused = await http.post(f"{public}{door}", **request)
                assert refused.status_code == 401
                assert f'resource_metadata="{where}"' in refused.headers["www-authenticate"]
            document = (await http.get(where)).json()
            assert document["resource"] == f"{public}{door}"
            assert document["authorization_servers"] == [provider.url]
            elsewhere = await provider.token(http, f"{public}{door}x", "data:read")
            headers = {"authorization": f"Bearer {elsewhere}"}
            again = await http.post(f"{public}{door}", headers=headers)
            assert again.status_code == 401
