"""What `fleet connect` prints, used the way each client uses it, against a served app that offers OAuth too."""

from __future__ import annotations

import asyncio
import json
import re
import tomllib
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport

from fleet_cli.connect import Endpoint, config_for
from fleet_cli.engines.freeport import free_port
from fleet_common.auth.keys import KeyFile
from fleet_common.mcp import Runtime, Service
from fleet_common.mcp.app import create_app
from fleet_common.settings import ServiceSettings
from fleet_common.testing import serving
from fleet_common.testing.issuer import Issuer, issuer_server

DISCOVERY = "/.well-known/oauth-protected-resource"


@asynccontextmanager
async def nothing(_settings: ServiceSettings, _runtime: Runtime) -> AsyncGenerator[None]:
    yield


SERVICE: Service[ServiceSettings, None] = Service(
    name="data", version="1", instructions="", settings=ServiceSettings, open_deps=nothing
)


@dataclass(frozen=True)
class Served:
    endpoint: Endpoint
    issuer: Issuer


@pytest.fixture
async def served(tmp_path: Path) -> AsyncGenerator[Served]:
    keys = KeyFile(tmp_path / "keys.json")
    key = await asyncio.to_thread(keys.create, name="k", roles=["viewer"], tenant="demo")
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    async with issuer_server() as issuer:
        settings = ServiceSettings(
            keys_file=tmp_path / "keys.json", oauth_issuer=issuer.url, public_url=base
        )
        app = await asyncio.to_thread(create_app, SERVICE, settings)
        async with serving(app, port=port):
            endpoint = Endpoint("fleet", "data", f"{base}/mcp", key.text, tmp_path, base)
            yield Served(endpoint, issuer)


Config = tuple[str, dict[str, str]]


def claude_code(text: str, key: str) -> Config:
    server = json.loads(text)["mcpServers"]["fleet"]
    return server["url"], filled(server["headers"], r"\$\{FLEET_KEY\}", key)


def cursor(text: str, key: str) -> Config:
    server = json.loads(text)["mcpServers"]["fleet"]
    return server["url"], filled(server["headers"], r"\$\{env:FLEET_KEY\}", key)


def vscode(text: str, key: str) -> Config:
    config = json.loads(text)
    server = config["servers"]["fleet"]
    return server["url"], filled(
        server["headers"], rf"\$\{{input:{config['inputs'][0]['id']}\}}", key
    )


def codex(text: str, key: str) -> Config:
    server = tomllib.loads(text)["mcp_servers"]["fleet"]
    assert server["bearer_token_env_var"] == "FLEET_KEY"
    return server["url"], {"Authorization": f"Bearer {key}"}


def inspector(text: str, key: str) -> Config:
    url = re.search(r"http://\S+", text)
    header = re.search(r'--header "([^:]+): ([^"]+)"', text)
    assert url is not None
    assert header is not None
    return url[0], {header[1]: header[2].replace("$FLEET_KEY", key)}


def openai(text: str, key: str) -> Config:
    url = re.search(r'"server_url": "([^"]+)"', text)
    assert url is not None
    assert '"authorization": os.environ["FLEET_KEY"]' in text
    return url[1], {"Authorization": f"Bearer {key}"}


def filled(headers: dict[str, str], reference: str, key: str) -> dict[str, str]:
    return {name: re.sub(reference, key, value) for name, value in headers.items()}


READERS: dict[str, Callable[[str, str], Config]] = {
    "claude-code": claude_code,
    "cursor": cursor,
    "vscode": vscode,
    "codex": codex,
    "inspector": inspector,
    "openai": openai,
    "json": lambda text, _key: (json.loads(text)["url"], json.loads(text)["headers"]),
}


@pytest.mark.parametrize("mode", ["auto", "legacy"])
@pytest.mark.parametrize("client", READERS)
async def test_what_is_printed_opens_the_door(served: Served, client: str, mode: Any) -> None:
    url, headers = READERS[client](config_for(client, served.endpoint).text, served.endpoint.key)
    async with Client(StreamableHttpTransport(url, headers=headers), mode=mode) as session:
        who = (await session.call_tool("fleet_whoami")).structured_content
    assert who is not None
    assert who["credential"] == "key"


@pytest.mark.parametrize("client", ["claude-code", "cursor"])
async def test_clients_that_drop_their_header_for_oauth_find_none(
    served: Served, client: str
) -> None:
    url, _ = READERS[client](config_for(client, served.endpoint).text, served.endpoint.key)
    async with httpx.AsyncClient(base_url=served.endpoint.public_url or "") as probe:
        refused = await probe.post(url, json={})
        paths = (f"{DISCOVERY}{urlsplit(url).path}", DISCOVERY)
        found = [(await probe.get(path)).status_code for path in paths]
    assert refused.status_code == 401
    assert "resource_metadata" not in refused.headers["www-authenticate"]
    assert found == [404, 404]


@pytest.mark.parametrize("client", ["chatgpt", "claude"])
async def test_a_hosted_client_finds_the_issuer_from_the_url_alone(
    served: Served, client: str
) -> None:
    url = config_for(client, served.endpoint).text
    async with httpx.AsyncClient() as probe:
        challenge = (await probe.post(url, json={})).headers["www-authenticate"]
        where = re.search(r'resource_metadata="([^"]+)"', challenge)
        assert where is not None
        document = (await probe.get(where[1])).json()
    assert document["authorization_servers"] == [served.issuer.url]
    # ChatGPT asks for a token for exactly what the document calls the resource.
    token = served.issuer.token(aud=document["resource"])
    async with Client(url, auth=token) as session:
        who = (await session.call_tool("fleet_whoami")).structured_content
    assert who is not None
    assert who["credential"] == "oauth"


async def test_a_key_does_not_pass_for_a_token(served: Served) -> None:
    other = replace(served.endpoint, key="fleet_00000000_x")
    url, headers = READERS["codex"](config_for("codex", other).text, other.key)
    async with httpx.AsyncClient() as client:
        assert (await client.post(url, json={}, headers=headers)).status_code == 401
