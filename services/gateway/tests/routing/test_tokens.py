"""Token exchange against a small authorization server that checks what RFC 8693 asks it to check."""

from __future__ import annotations

import asyncio
import base64
import secrets
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, unquote_plus

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from fleet_common.auth import Principal
from fleet_common.auth.internal import InternalSigner, InternalVerifier, generate_keypair
from fleet_common.errors import Unavailable, UpstreamFailed
from fleet_common.testing import serving
from fleet_common.testing.principals import viewer
from fleet_gateway.routing.tokens import Exchanged, ExchangeOptions, Minted

CLIENT = ("fleet:gateway", "s3 c%ret+ü")
PRIVATE_PEM, PUBLIC_PEM = generate_keypair()
SCOPE: dict[str, Any] = {
    "type": "http",
    "headers": [(b"authorization", b"Bearer the-callers-own-token")],
}


class AuthorizationServer:
    """`/token` of an authorization server that trusts the gateway's key."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[dict[str, str]] = []
        self.subjects: list[Principal] = []
        self.expires_in: Any = 300
        self.app = Starlette(routes=[Route("/token", self.token, methods=["POST"])])

    async def token(self, request: Request) -> JSONResponse:
        sent = request.headers["authorization"].removeprefix("Basic ")
        # RFC 6749 §2.3.1: both parts are form-encoded.
        parts = base64.b64decode(sent).decode().split(":")
        if tuple(map(unquote_plus, parts)) != CLIENT:
            return JSONResponse({"error": "invalid_client"}, 401)
        form = {
            name: values[0] for name, values in parse_qs((await request.body()).decode()).items()
        }
        self.asked.append(form)
        if form["subject_token_type"].endswith(":jwt"):
            verified = InternalVerifier(PUBLIC_PEM, audience=self.url).verify(form["subject_token"])
            if verified is None:
                return JSONResponse({"error": "invalid_request"}, 400)
            self.subjects.append(verified[0])
        if form["audience"] == "https://mcp.example.com/refused/mcp":
            return JSONResponse({"error": "invalid_target"}, 400)
        return JSONResponse(
            {
                "access_token": f"for-{form['audience']}-{secrets.token_hex(4)}",
                "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
                "token_type": "Bearer",
                "expires_in": self.expires_in,
            }
        )


@pytest.fixture
async def server() -> AsyncGenerator[AuthorizationServer]:
    server = AuthorizationServer()
    async with serving(server.app) as url:
        server.url = f"{url}/token"
        yield server


class Time:
    seconds = 1_800_000_000.0

    def __call__(self) -> float:
        return self.seconds


def exchanged(server: AuthorizationServer, time: Time | None = None, **changes: str) -> Exchanged:
    options = ExchangeOptions(
        url=server.url,
        client_id=CLIENT[0],
        client_secret=CLIENT[1],
        audience="https://mcp.example.com/{service}/mcp",
    )
    signer = InternalSigner(PRIVATE_PEM)
    return Exchanged(replace(options, **changes), signer, now=time or Time())


async def test_a_key_callers_token_is_got_with_an_assertion_of_the_gateway(
    server: AuthorizationServer,
) -> None:
    tokens = exchanged(server)
    async with tokens.opened():
        token = await tokens.token(viewer(), "data", SCOPE)
    assert token.startswith("for-https://mcp.example.com/data/mcp-")
    assert server.asked[0]["grant_type"] == "urn:ietf:params:oauth:grant-type:token-exchange"
    assert "the-callers-own-token" not in server.asked[0].values()
    assert server.subjects[0].subject == viewer().subject


async def test_an_oauth_callers_own_token_is_what_is_exchanged(
    server: AuthorizationServer,
) -> None:
    tokens = exchanged(server)
    async with tokens.opened():
        await tokens.token(replace(viewer(), kind="oauth"), "data", SCOPE)
    assert server.asked[0]["subject_token"] == "the-callers-own-token"
    assert server.asked[0]["subject_token_type"].endswith(":access_token")


async def test_a_token_is_asked_for_once_per_caller_and_service_until_it_ends(
    server: AuthorizationServer,
) -> None:
    time = Time()
    tokens = exchanged(server, time)
    async with tokens.opened():
        same = await asyncio.gather(*(tokens.token(viewer(), "data", SCOPE) for _ in range(9)))
        assert len(set(same)) == len(server.asked) == 1
        others = {
            await tokens.token(viewer(), "aiml", SCOPE),
            await tokens.token(viewer(tenant="other"), "data", SCOPE),
        }
        assert len(others | set(same)) == len(server.asked) == 3
        time.seconds += 271
        assert await tokens.token(viewer(), "data", SCOPE) not in same


@pytest.mark.parametrize("why", ["refused", "bad secret", "nonsense"])
async def test_an_authorization_server_that_gives_no_token_is_an_upstream_failure(
    server: AuthorizationServer, why: str
) -> None:
    server.expires_in = "soon" if why == "nonsense" else 300
    tokens = exchanged(server, client_secret="wrong" if why == "bad secret" else "s3cret")
    async with tokens.opened():
        with pytest.raises(UpstreamFailed) as failed:
            await tokens.token(viewer(), "refused" if why == "refused" else "data", SCOPE)
    assert "s3cret" not in str(failed.value)


async def test_an_authorization_server_that_is_away_is_unavailable(
    server: AuthorizationServer,
) -> None:
    tokens = exchanged(server, url="http://127.0.0.1:1/token")
    with pytest.raises(Unavailable):
        await tokens.token(viewer(), "data", SCOPE)
    async with tokens.opened():
        with pytest.raises(Unavailable):
            await tokens.token(viewer(), "data", SCOPE)


async def test_minted_tokens_are_for_one_service() -> None:
    token = await Minted(InternalSigner(PRIVATE_PEM)).token(viewer(), "data", SCOPE)
    assert InternalVerifier(PUBLIC_PEM, audience="data").verify(token)
    assert InternalVerifier(PUBLIC_PEM, audience="aiml").verify(token) is None


def test_the_secret_is_in_no_representation() -> None:
    assert "s3cret" not in repr(ExchangeOptions("http://as/token", "gateway", "s3cret"))
