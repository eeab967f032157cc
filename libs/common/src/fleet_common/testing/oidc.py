"""A real authorization server for tests, npm's oidc-provider run by Node, and a browser that signs in there.

The server's script and its pinned packages are beside the tests of sign-in.
"""

from __future__ import annotations

import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx
from fastmcp.client.auth import OAuth
from mcp.shared.auth import AuthorizationCodeResult

from fleet_common.testing.npm import NODE, npm_packages


class Browser(OAuth):
    """A client's sign-in whose browser follows every redirect by itself, cookies and all."""

    async def redirect_handler(self, authorization_url: str) -> None:
        """Sign in and consent, and keep where the server sends the browser in the end."""
        url, home = authorization_url, f"http://127.0.0.1:{self.redirect_port}/"
        async with httpx.AsyncClient() as client:
            while not url.startswith(home):
                response = await client.get(url)
                assert response.is_redirect, response.text  # noqa: S101 - a test's own check
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


@contextmanager
def running_provider(folder: Path) -> Generator[Provider]:
    """Run the server of `provider.mjs` in `folder` while the block runs.

    Raises:
        RuntimeError: it did not start.
    """
    library = npm_packages(folder / "package.json") / "node_modules/oidc-provider/lib/index.js"
    process = subprocess.Popen(  # noqa: S603 - our own script and pinned Node
        [str(NODE), str(folder / "provider.mjs"), str(library)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        url = process.stdout.readline().strip() if process.stdout else ""
        if not url:
            raise RuntimeError("the authorization server did not start")
        yield Provider(url)
    finally:
        process.terminate()
        process.communicate(timeout=30)
