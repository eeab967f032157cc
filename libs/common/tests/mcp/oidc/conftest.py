"""A service that trusts a real authorization server: npm's oidc-provider, run by Node."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx
import pytest
from fastmcp.client.auth import OAuth
from mcp.shared.auth import AuthorizationCodeResult

from fleet_cli.engines.freeport import free_port
from fleet_common.mcp import Service
from fleet_common.mcp.app import create_app
from fleet_common.settings import ServiceSettings
from fleet_common.testing import serving
from fleet_common.testing.npm import NODE, npm_packages

HERE = Path(__file__).parent


class Browser(OAuth):
    """A client's sign-in whose browser follows every redirect by itself, cookies and all."""

    async def redirect_handler(self, authorization_url: str) -> None:
        """Sign in and consent, and keep where the server sends the browser in the end."""
        url, home = authorization_url, f"http://127.0.0.1:{self.redirect_port}/"
        async with httpx.AsyncClient() as client:
            while not url.startswith(home):
                response = await client.get(url)
                assert response.is_redirect, response.text
                url = urljoin(url, response.headers["location"])
        self.landed_at = url

    async def callback_handler(self) -> AuthorizationCodeResult:
        """Return what the last redirect carried."""
        words = {
            name: values[0] for name, values in parse_qs(urlsplit(self.landed_at).query).items()
        }
        return AuthorizationCodeResult(
            code=words["code"], state=words.get("state"), iss=words.get("iss")
        )


@dataclass(frozen=True)
class Provider:
    """The authorization server.

    Attributes:
        url: its issuer identifier.
    """

    url: str

    async def token(
        self, client: httpx.AsyncClient, resource: str, scope: str, client_id: str = "machine"
    ) -> str:
        """Return a new access token: a JWT for the client `machine`, an opaque one for `opaque`."""
        form = {"grant_type": "client_credentials", "resource": resource, "scope": scope}
        answer = await client.post(
            f"{self.url}/token", data=form, auth=(client_id, "machine-secret")
        )
        return str(answer.raise_for_status().json()["access_token"])

    async def rotate(self, client: httpx.AsyncClient) -> None:
        """Make it sign with a new key from now on; the old ones stay published."""
        (await client.post(f"{self.url}/test/rotate")).raise_for_status()


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    packages = npm_packages(HERE / "package.json") / "node_modules"
    library = packages / "oidc-provider" / "lib" / "index.js"
    process = subprocess.Popen(
        [str(NODE), str(HERE / "provider.mjs"), str(library)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url, "the authorization server did not start"
        yield Provider(url)
    finally:
        process.terminate()
        process.communicate(timeout=30)


@pytest.fixture
async def door(
    provider: Provider, service: Service[Any, Any], keys_path: Path
) -> AsyncGenerator[str]:
    """The URL of a service's first door."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    settings = ServiceSettings(
        keys_file=keys_path,
        oauth_issuer=provider.url,
        public_url=url,
        introspection_url=f"{provider.url}/token/introspection",
        introspection_client_id="machine",
        introspection_client_secret="machine-secret",
    )
    app = await asyncio.to_thread(create_app, service, settings)
    async with serving(app, port=port):
        yield f"{url}/mcp"


@pytest.fixture
def sign_in() -> Callable[..., OAuth]:
    """Make a client's sign-in; the words are those of FastMCP's `OAuth`."""

    def make(**options: Any) -> OAuth:
        return Browser(callback_host="127.0.0.1", **options)

    return make
