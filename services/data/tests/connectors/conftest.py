"""A strict OAuth server, and the credentials of a service that is registered there."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from html import unescape
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from fastmcp import Client
from fastmcp.client.auth import BearerAuth
from fastmcp.client.elicitation import ElicitResult
from fastmcp.client.transports import StreamableHttpTransport

from fleet_cli.engines.freeport import free_port
from fleet_common.auth.keys import KeyFile
from fleet_common.mcp.app import create_app
from fleet_common.metrics import Metrics
from fleet_common.testing.http import serving
from fleet_common.testing.npm import npm_packages
from fleet_data.connectors.credentials import Credentials
from fleet_data.connectors.opening import open_credentials
from fleet_data.server import SERVICE
from fleet_data.settings import Settings
from fleet_data.testing.oauth import CLIENT_ID, CLIENT_SECRET, OAuthServer

# The same pins as for GitHub, so that one machine installs them once.
PINS = Path(__file__).parents[3] / "devops" / "tests" / "emulate" / "package.json"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Here and not in the fixture: the first run of a machine downloads, and a test has ten seconds.
    if any("emulated" in getattr(item, "fixturenames", ()) for item in items):
        npm_packages(PINS)


@pytest.fixture(scope="session")
def emulate_pins() -> Path:
    """What is installed of npm."""
    return PINS


@pytest.fixture
def oauth() -> OAuthServer:
    """What happens at the providers."""
    return OAuthServer()


@pytest.fixture
async def linked(settings: Settings, oauth: OAuthServer) -> AsyncGenerator[Settings]:
    """Settings of a service that is registered at the providers."""
    names = ("google", "hubspot", "linkedin")
    async with serving(oauth.app()) as url:
        told = {
            "connector_clients": ",".join(f"{n}={CLIENT_ID}:{CLIENT_SECRET}" for n in names),
            "connector_urls": [*settings.connector_urls, *(f"{name}={url}" for name in names)],
            "links_url": "https://fleet.example.com",
        }
        yield Settings.model_validate({**settings.model_dump(), **told})


@pytest.fixture
def open_replica(
    open_database: Callable[[Settings], AbstractAsyncContextManager[Any]],
) -> Callable[[Settings], AbstractAsyncContextManager[Credentials]]:
    """Opens the credentials as one more replica of the service has them."""

    @asynccontextmanager
    async def opened(settings: Settings) -> AsyncGenerator[Credentials]:
        async with (
            open_database(settings) as database,
            open_credentials(settings, database, Metrics("data", "0")) as credentials,
        ):
            yield credentials

    return opened


class Site:
    """A running service, its callers, and the browser of a person."""

    def __init__(
        self, url: str, keys: dict[tuple[str, str], str], browser: httpx.AsyncClient
    ) -> None:
        self.url = url
        self.browser = browser
        self._keys = keys

    def key(self, role: str, tenant: str) -> str:
        """Return the key of a caller."""
        return self._keys[role, tenant]

    def client(
        self, *, role: str = "admin", tenant: str = "demo", agrees: bool = True
    ) -> Client[Any]:
        """Return a caller's client; whoever is asked answers alike each time."""

        async def answer(*_: Any) -> ElicitResult[Any]:
            return ElicitResult(action="accept", content={"approve": agrees})

        auth = BearerAuth(self.key(role, tenant))
        transport = StreamableHttpTransport(f"{self.url}/mcp", auth=auth)
        return Client(transport, elicitation_handler=answer)

    async def consent(self, link: str) -> tuple[httpx.Response, dict[str, str]]:
        """Open a link, agree at the provider, and return the page one comes back to with its form."""
        page = await self.browser.get(link)
        hidden = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page.text)
        return page, {name: unescape(value) for name, value in hidden}

    async def press(self, provider: str, form: dict[str, str]) -> httpx.Response:
        """Press the button of that page."""
        return await self.browser.post(
            f"/oauth/{provider}/callback", data=form, headers={"Origin": self.url}
        )


@pytest.fixture
def keys(tmp_path: Path) -> dict[tuple[str, str], str]:
    """Keys by role and tenant; made before there is a loop, for that writes a file."""
    file = KeyFile(tmp_path / "keys.json")
    whose = [("admin", "demo"), ("viewer", "demo"), ("admin", "other")]
    return {(r, t): file.create(name="x", roles=[r], tenant=t).text for r, t in whose}


@pytest.fixture
async def site(
    linked: Settings, redis_url: str, tmp_path: Path, keys: dict[tuple[str, str], str]
) -> AsyncGenerator[Site]:
    """The whole service, as a gateway or a browser reaches it."""
    port = free_port()
    told = {
        "links_url": f"http://127.0.0.1:{port}",
        "keys_file": tmp_path / "keys.json",
        "redis_url": redis_url,
        "approvals_key": uuid4().hex,
    }
    chosen = Settings.model_validate({**linked.model_dump(), **told})
    app = await asyncio.to_thread(create_app, SERVICE, chosen)
    async with (
        serving(app, port=port) as url,
        httpx.AsyncClient(base_url=url, follow_redirects=True, verify=False) as browser,
    ):
        yield Site(url, keys, browser)
