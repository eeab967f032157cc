from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fleet_common.settings import SettingsError
from fleet_common.testing import serving, wait_until
from fleet_common.testing.upstream import status, upstream_server
from fleet_gateway.server import SERVICE, create_gateway
from fleet_gateway.settings import Settings

BODY = b'{ "raw" :  "bytes\\u00fc" }\n'


@dataclass
class Owner:
    """A service that keeps what it is sent."""

    requests: list[tuple[Request, bytes]] = field(default_factory=list)
    answer: Response = field(default_factory=lambda: JSONResponse({"ok": True}))

    async def take(self, request: Request) -> Response:
        self.requests.append((request, await request.body()))
        return self.answer


@pytest.fixture
def owner() -> Owner:
    return Owner()


@asynccontextmanager
async def gateway(
    tmp_path: Path, keypair: tuple[Path, Path], url: str
) -> AsyncIterator[httpx.AsyncClient]:
    settings = Settings(
        keys_file=tmp_path / "keys.json",
        internal_private_key_file=keypair[0],
        services=(f"devops={url}",),
        webhooks=("github=devops", "stripe=absent"),
    )
    app = await asyncio.to_thread(create_gateway, SERVICE, settings)
    async with serving(app) as at, httpx.AsyncClient(base_url=at) as client:
        yield client


@pytest.fixture
async def http(
    tmp_path: Path, keypair: tuple[Path, Path], owner: Owner
) -> AsyncGenerator[httpx.AsyncClient]:
    app = Starlette(routes=[Route("/webhooks/{provider}", owner.take, methods=["POST"])])
    async with serving(app) as url, gateway(tmp_path, keypair, url) as client:
        yield client


async def test_a_delivery_reaches_its_owner_byte_for_byte(
    http: httpx.AsyncClient, owner: Owner
) -> None:
    headers = {"x-hub-signature-256": "sha256=ab", "x-github-delivery": "d1"}
    response = await http.post("/webhooks/github?a=%2F&b=1", content=BODY, headers=headers)
    assert (response.status_code, response.json()) == (200, {"ok": True})
    ((request, body),) = owner.requests
    assert body == BODY
    assert request.url.query == "a=%2F&b=1"
    assert headers.items() <= dict(request.headers).items()


async def test_credentials_and_internal_headers_do_not_pass(
    http: httpx.AsyncClient, owner: Owner
) -> None:
    headers = {"authorization": "Bearer x", "cookie": "a=b", "x-api-key": "k", "fleet-call": "1"}
    await http.post("/webhooks/github", content=BODY, headers=headers)
    assert not headers.keys() & owner.requests[0][0].headers.keys()


async def test_the_owners_refusal_is_the_answer(http: httpx.AsyncClient, owner: Owner) -> None:
    owner.answer = JSONResponse(
        {"code": "conflict"}, 409, headers={"retry-after": "7", "set-cookie": "a=b"}
    )
    response = await http.post("/webhooks/github", content=BODY)
    assert (response.status_code, response.headers["retry-after"]) == (409, "7")
    assert "set-cookie" not in response.headers
    assert response.json() == {"code": "conflict"}


@pytest.mark.parametrize("provider", ["nobody", "stripe"])
async def test_a_provider_without_an_owner_is_a_404(
    http: httpx.AsyncClient, owner: Owner, provider: str
) -> None:
    response = await http.post(f"/webhooks/{provider}", content=BODY)
    assert response.status_code == 404
    assert owner.requests == []


async def test_a_body_over_4_mib_is_a_413(http: httpx.AsyncClient, owner: Owner) -> None:
    response = await http.post("/webhooks/github", content=b"x" * (4 * 1024 * 1024 + 1))
    assert response.status_code == 413
    assert owner.requests == []


async def test_an_owner_that_is_away_is_a_503_so_that_the_sender_repeats(
    tmp_path: Path, keypair: tuple[Path, Path], unused_tcp_port: int
) -> None:
    async with gateway(tmp_path, keypair, f"http://127.0.0.1:{unused_tcp_port}") as http:
        response = await http.post("/webhooks/github", content=BODY)
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) >= 1


async def test_only_post_is_served(http: httpx.AsyncClient) -> None:
    assert (await http.get("/webhooks/github")).status_code == 405


@pytest.mark.parametrize("entry", ["github", "=devops", "github=", "GitHub=devops"])
def test_an_owner_that_is_no_pair_stops_the_start(entry: str) -> None:
    with pytest.raises(SettingsError, match="WEBHOOKS"):
        Settings.read({"FLEET_GATEWAY_WEBHOOKS": entry})


async def test_one_address_has_half_of_what_a_provider_may_send_at_once(
    tmp_path: Path, keypair: tuple[Path, Path]
) -> None:
    async with upstream_server() as owner:
        owner.answer("/webhooks/github", owner.never)
        for path in ("/mcp", "/readyz"):
            owner.answer(path, status(404))
        async with gateway(tmp_path, keypair, owner.url) as http, asyncio.TaskGroup() as group:
            held = [
                group.create_task(http.post("/webhooks/github", content=BODY, timeout=30))
                for _ in range(32)
            ]

            async def are_there() -> bool:
                return owner.calls["/webhooks/github"] == len(held)

            await wait_until(are_there)
            refused = await http.post("/webhooks/github", content=BODY)
            alive = await http.get("/livez")
            owner.closing.set()
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
    assert alive.status_code == 200
