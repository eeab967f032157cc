"""OAuth at the gateway: every door is a resource of its own, and no token goes further than its door."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest
from fastmcp import Client

from fleet_common.testing import serving
from fleet_common.testing.issuer import Issuer, issuer_server
from fleet_common.testing.upstream import status, upstream_server
from fleet_common.testing.wire import answer, modern
from fleet_gateway.server import SERVICE, create_gateway
from fleet_gateway.settings import Settings

PUBLIC = "https://fleet.example"


class Fleet(Protocol):
    """What the fixture `fleet` gives (see conftest.py)."""

    url: str
    key: str


@pytest.fixture
async def issuer() -> AsyncGenerator[Issuer]:
    async with issuer_server() as server:
        yield server


@pytest.fixture
def gateway_settings(issuer: Issuer) -> dict[str, Any]:
    return {"oauth_issuer": issuer.url, "public_url": PUBLIC}


async def call(url: str, path: str, token: str | None, name: str = "crm_echo") -> httpx.Response:
    request = modern("tools/call", name, arguments={"text": "hi"})
    headers = request["headers"] | ({"authorization": f"Bearer {token}"} if token else {})
    async with httpx.AsyncClient(base_url=url) as client:
        return await client.post(path, json=request["json"], headers=headers)


@pytest.mark.parametrize("path", ["/mcp", "/data/mcp"])
async def test_a_token_for_a_door_reaches_the_service_as_an_internal_one(
    fleet: Fleet, issuer: Issuer, path: str
) -> None:
    response = await call(fleet.url, path, issuer.token(aud=f"{PUBLIC}{path}"))
    echoed = answer(response)["result"]["structuredContent"]
    assert echoed == {"text": "hi", "tenant": "acme", "credential": "internal"}


@pytest.mark.parametrize(
    ("audience", "path"), [("/mcp", "/data/mcp"), ("/data/mcp", "/mcp"), ("", "/mcp")]
)
async def test_a_token_for_one_door_opens_no_other(
    fleet: Fleet, issuer: Issuer, audience: str, path: str
) -> None:
    response = await call(fleet.url, path, issuer.token(aud=f"{PUBLIC}{audience}"))
    assert response.status_code == 401


async def test_a_token_is_bound_by_its_scopes_behind_the_gateway_too(
    fleet: Fleet, issuer: Issuer
) -> None:
    token = issuer.token(aud=f"{PUBLIC}/mcp", roles=["admin"], scope="data:read")
    async with Client(f"{fleet.url}/mcp", auth=token) as client:
        listed = {tool.name for tool in await client.list_tools()}
    assert "crm_echo" in listed
    assert not listed & {"crm_write", "gh_progress", "rag_big"}


@pytest.mark.parametrize(
    ("path", "scopes"),
    [
        ("/data/mcp", ["data:admin", "data:read", "data:send", "data:write"]),
        ("/aiml/mcp", ["aiml:admin", "aiml:read", "aiml:write"]),
    ],
)
async def test_every_door_has_metadata_and_a_challenge_of_its_own(
    fleet: Fleet, issuer: Issuer, path: str, scopes: list[str]
) -> None:
    where = f"/.well-known/oauth-protected-resource{path}"
    async with httpx.AsyncClient(base_url=fleet.url) as client:
        document = (await client.get(where)).json()
    assert document["resource"] == f"{PUBLIC}{path}"
    assert document["authorization_servers"] == [issuer.url]
    assert document["scopes_supported"] == scopes
    refused = await call(fleet.url, path, None)
    assert refused.json()["error"]["data"]["code"] == "unauthenticated"
    assert f'resource_metadata="{PUBLIC}{where}"' in refused.headers["www-authenticate"]


async def test_the_first_door_counts_the_scopes_of_all_services(fleet: Fleet) -> None:
    async with httpx.AsyncClient(base_url=fleet.url) as client:
        document = (await client.get("/.well-known/oauth-protected-resource/mcp")).json()
    assert {"data:read", "devops:deploy", "aiml:write"} <= set(document["scopes_supported"])


@pytest.mark.parametrize("path", ["/key/mcp", "/data/key/mcp"])
async def test_the_doors_for_keys_take_keys_only_and_never_mention_oauth(
    fleet: Fleet, issuer: Issuer, path: str
) -> None:
    refused = await call(fleet.url, path, issuer.token(aud=f"{PUBLIC}{path}"))
    assert refused.status_code == 401
    assert "resource_metadata" not in refused.headers["www-authenticate"]
    assert (await call(fleet.url, path, fleet.key)).status_code == 200
    async with httpx.AsyncClient(base_url=fleet.url) as client:
        hidden = await client.get(f"/.well-known/oauth-protected-resource{path}")
        root = await client.get("/.well-known/oauth-protected-resource")
    assert (hidden.status_code, root.status_code) == (404, 404)


async def test_the_token_itself_is_never_forwarded(
    issuer: Issuer, keypair: tuple[Path, Path], tmp_path: Path
) -> None:
    async with upstream_server() as service:
        for path in ("/mcp", "/readyz"):
            service.answer(path, status(200, "{}", Content_Type="application/json"))
        settings = Settings(
            keys_file=tmp_path / "keys.json",
            internal_private_key_file=keypair[0],
            services=(f"data={service.url}",),
            oauth_issuer=issuer.url,
            public_url=PUBLIC,
        )
        token = issuer.token(aud=f"{PUBLIC}/data/mcp")
        async with serving(await asyncio.to_thread(create_gateway, SERVICE, settings)) as url:
            await call(url, "/data/mcp", token)
        sent = [str(request.raw_headers) for request in service.requests]
    assert any(request.path == "/mcp" for request in service.requests)
    assert not any(token in headers for headers in sent)


async def test_a_person_approves_with_a_token_that_was_given_the_scope(
    fleet: Fleet, issuer: Issuer
) -> None:
    async with httpx.AsyncClient(base_url=fleet.url) as http:
        for scope, expected in (("fleet:approve", 501), ("data:read", 403)):
            token = issuer.token(aud=f"{PUBLIC}/mcp", roles=["approver"], scope=scope)
            page = await http.post("/approve/x", data={"key": token})
            # 501: let in, and told that this gateway of a test has no Redis.
            assert page.status_code == expected


async def test_a_form_may_come_from_the_gateways_public_origin_and_no_other(fleet: Fleet) -> None:
    async with httpx.AsyncClient(base_url=fleet.url) as http:
        for origin, expected in ((PUBLIC, 401), ("https://evil.example", 403)):
            headers = {"origin": origin, "host": "fleet.example"}
            page = await http.post("/approve/x", data={"key": "wrong"}, headers=headers)
            assert page.status_code == expected
