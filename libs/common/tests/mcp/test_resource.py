"""What OAuth clients see over HTTP: metadata, challenges, and callers, at a service's own doors."""

from __future__ import annotations

import asyncio
import hmac
from base64 import urlsafe_b64encode
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastmcp import Client

from fleet_common.auth.internal import InternalSigner, generate_keypair
from fleet_common.mcp import Service
from fleet_common.mcp.app import create_app
from fleet_common.settings import ServiceSettings
from fleet_common.testing import principal, serving
from fleet_common.testing.issuer import Issuer, issuer_server, unsigned_token
from fleet_common.testing.wire import answer, modern

PUBLIC = "https://fleet.example/data"
DOOR = f"{PUBLIC}/mcp"
METADATA = "/.well-known/oauth-protected-resource/data/mcp"


@dataclass
class Served:
    issuer: Issuer
    url: str

    async def post(self, token: str | None, path: str = "/mcp") -> httpx.Response:
        request = modern("tools/call", "fleet_whoami")
        headers = request["headers"] | ({"authorization": f"Bearer {token}"} if token else {})
        async with httpx.AsyncClient(base_url=self.url) as client:
            return await client.post(path, json=request["json"], headers=headers)

    async def get(self, path: str, host: str = "127.0.0.1") -> httpx.Response:
        async with httpx.AsyncClient(base_url=self.url) as client:
            return await client.get(path, headers={"host": host})


@pytest.fixture
async def served(service: Service[Any, Any], keys_path: Path) -> AsyncGenerator[Served]:
    async with issuer_server() as issuer:
        settings = ServiceSettings(keys_file=keys_path, oauth_issuer=issuer.url, public_url=PUBLIC)
        async with serving(await asyncio.to_thread(create_app, service, settings)) as url:
            yield Served(issuer, url)


async def test_a_token_for_this_door_names_its_caller(served: Served) -> None:
    response = await served.post(served.issuer.token(aud=DOOR))
    who = answer(response)["result"]["structuredContent"]
    assert (who["subject"], who["tenant"], who["credential"]) == ("oauth:ada", "acme", "oauth")
    assert who["scopes"] == ["data:read"]


async def test_a_token_grants_no_more_than_its_scopes(served: Served, service: Any) -> None:
    token = served.issuer.token(aud=DOOR, roles=["admin"], scope="data:read")
    async with Client(f"{served.url}/mcp", auth=token) as client:
        listed = {tool.name for tool in await client.list_tools()}
    assert "note_get" in listed
    assert not listed & {"note_write", "note_audit"}


async def test_a_token_grants_no_more_than_its_roles(served: Served) -> None:
    token = served.issuer.token(aud=DOOR, roles=["viewer"], scope="data:read data:admin")
    async with Client(f"{served.url}/mcp", auth=token) as client:
        assert "note_audit" not in {tool.name for tool in await client.list_tools()}


async def test_the_metadata_says_who_issues_tokens_for_this_door(served: Served) -> None:
    response = await served.get(METADATA)
    assert response.json() == {
        "resource": DOOR,
        "authorization_servers": [served.issuer.url],
        "scopes_supported": ["data:admin", "data:read", "data:send", "data:write"],
        "bearer_methods_supported": ["header"],
    }
    assert "max-age" in response.headers["cache-control"]


async def test_no_token_is_answered_with_where_to_look_and_what_to_ask_for(served: Served) -> None:
    response = await served.post(None)
    challenge = response.headers["www-authenticate"]
    assert response.status_code == 401
    assert f'resource_metadata="https://fleet.example{METADATA}"' in challenge
    assert 'scope="data:read data:send data:write"' in challenge
    assert "error=" not in challenge


async def test_a_wrong_token_is_told_so(served: Served) -> None:
    response = await served.post(served.issuer.token(aud="https://fleet.example/devops/mcp"))
    assert response.status_code == 401
    assert 'error="invalid_token"' in response.headers["www-authenticate"]
    assert "resource_metadata=" in response.headers["www-authenticate"]


TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.mark.parametrize(
    ("claims", "status", "code"),
    [
        (None, 401, "unauthenticated"),
        ({"aud": "https://fleet.example/devops/mcp"}, 401, "unauthenticated"),
        ({"aud": DOOR, "scope": "other:read"}, 403, "permission_denied"),
    ],
)
async def test_a_refusal_is_an_error_like_any_other_and_names_its_trace(
    served: Served, claims: dict[str, Any] | None, status: int, code: str
) -> None:
    request = modern("tools/list")
    request["headers"]["traceparent"] = f"00-{TRACE}-00f067aa0ba902b7-01"
    if claims is not None:
        request["headers"]["authorization"] = f"Bearer {served.issuer.token(**claims)}"
    async with httpx.AsyncClient(base_url=served.url) as client:
        response = await client.post("/mcp", **request)
    assert response.status_code == status
    assert response.json()["error"]["code"] == status
    facts = response.json()["error"]["data"]
    assert (facts["code"], facts["retryable"], facts["traceId"]) == (code, False, TRACE)
    assert response.headers["x-request-id"]


def _hs256(issuer: Issuer) -> str:
    header = {"alg": "HS256", "typ": "at+jwt", "kid": issuer.signing}
    body = unsigned_token(header, issuer.claims(aud=DOOR)).rstrip(".")
    mac = hmac.digest(issuer.keys[issuer.signing].as_pem(private=False), body.encode(), "sha256")
    return f"{body}.{urlsafe_b64encode(mac).rstrip(b'=').decode()}"


BAD: dict[str, Callable[[Issuer], str]] = {
    "for another door": lambda issuer: issuer.token(aud=f"{DOOR}/"),
    "of another issuer": lambda issuer: issuer.token(aud=DOOR, iss="https://evil.example"),
    "expired": lambda issuer: issuer.token(aud=DOOR, exp=1),
    "without an expiry": lambda issuer: issuer.token(aud=DOOR, exp=None),
    "not valid yet": lambda issuer: issuer.token(aud=DOOR, nbf=2**40),
    "of an unknown key": lambda issuer: issuer.token({"kid": "nobody"}, aud=DOOR),
    "signed by nobody": lambda issuer: unsigned_token(
        {"alg": "none", "typ": "at+jwt", "kid": issuer.signing}, issuer.claims(aud=DOOR)
    ),
    "signed with the public key": _hs256,
    "truncated": lambda issuer: issuer.token(aud=DOOR)[:-40],
    "without a signature": lambda issuer: issuer.token(aud=DOOR).rpartition(".")[0],
    "of 30 kB": lambda issuer: issuer.token(aud=DOOR, padding="x" * 22_000),
    "of dots": lambda _: "." * 500,
    "no text": lambda _: "\xff\xfe.\xff.\xff",
    "with a space": lambda issuer: f" {issuer.token(aud=DOOR)}",
    "an internal one that nobody signed": lambda _: unsigned_token({"typ": "fleet+jwt"}, {}),
}


@pytest.mark.parametrize("kind", BAD)
async def test_a_bad_token_is_a_401(served: Served, kind: str) -> None:
    request = modern("tools/call", "fleet_whoami")
    bearer = b"Bearer " + BAD[kind](served.issuer).encode("latin-1")
    headers = [(k.encode(), v.encode()) for k, v in request["headers"].items()]
    async with httpx.AsyncClient(base_url=served.url) as client:
        response = await client.post(
            "/mcp", json=request["json"], headers=[*headers, (b"authorization", bearer)]
        )
    assert response.status_code == 401
    assert 'error="invalid_token"' in response.headers["www-authenticate"]


@pytest.mark.parametrize("scope", [None, "openid", "devops:read"])
async def test_a_token_without_a_scope_of_the_door_is_told_which(
    served: Served, scope: str | None
) -> None:
    response = await served.post(served.issuer.token(aud=DOOR, scope=scope))
    challenge = response.headers["www-authenticate"]
    assert response.status_code == 403
    assert 'error="insufficient_scope"' in challenge
    assert 'scope="data:read data:send data:write"' in challenge
    assert "resource_metadata=" in challenge


@pytest.mark.parametrize("path", ["/key/mcp", "/.well-known/oauth-protected-resource/data/key/mcp"])
async def test_the_door_for_keys_never_mentions_oauth(served: Served, path: str) -> None:
    for token in (None, served.issuer.token(aud=f"{PUBLIC}/key/mcp")):
        response = await served.post(token, path)
        assert response.status_code in {401, 404, 405}
        assert "resource_metadata" not in response.headers.get("www-authenticate", "")
    assert (await served.get("/.well-known/oauth-protected-resource")).status_code == 404


async def test_keys_open_the_door_beside_tokens(served: Served, viewer_key: str) -> None:
    assert (await served.post(viewer_key)).status_code == 200


async def test_an_issuer_that_is_away_is_no_reason_to_throw_a_token_away(served: Served) -> None:
    served.issuer.is_away = True
    served.issuer.rotate()
    response = await served.post(served.issuer.token(aud=DOOR))
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) >= 1
    assert "www-authenticate" not in response.headers


async def test_the_public_name_is_a_host_that_is_accepted(served: Served) -> None:
    assert (await served.get(METADATA, host="fleet.example")).status_code == 200
    assert (await served.get(METADATA, host="evil.example")).status_code == 421


@pytest.mark.parametrize("path", ["/mcp", "/key/mcp"])
async def test_without_an_issuer_nobody_hears_of_oauth(
    service: Service[Any, Any], settings: ServiceSettings, path: str
) -> None:
    async with serving(await asyncio.to_thread(create_app, service, settings)) as url:
        served = Served(Issuer(), url)
        assert (
            "resource_metadata" not in (await served.post(None, path)).headers["www-authenticate"]
        )
        assert (await served.get(METADATA)).status_code == 404
        assert (await served.post(served.issuer.token(aud=DOOR))).status_code == 401


async def test_an_internal_token_is_still_taken_where_oauth_is(
    service: Service[Any, Any], keys_path: Path, tmp_path: Path
) -> None:
    private, public = generate_keypair()
    (tmp_path / "public.pem").write_bytes(public)
    async with issuer_server() as issuer:
        settings = ServiceSettings(
            keys_file=keys_path,
            oauth_issuer=issuer.url,
            public_url=PUBLIC,
            internal_public_key_file=tmp_path / "public.pem",
        )
        async with serving(await asyncio.to_thread(create_app, service, settings)) as url:
            token = InternalSigner(private).mint(principal("viewer"), audience="data")
            response = await Served(issuer, url).post(token)
    assert answer(response)["result"]["structuredContent"]["credential"] == "internal"
