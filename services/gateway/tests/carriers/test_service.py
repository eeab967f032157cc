from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest

from fleet_common.auth.internal import InternalVerifier
from fleet_common.auth.keys import KeyFile
from fleet_common.testing import serving, wait_until
from fleet_common.testing.upstream import Upstream, reset, status, upstream_server
from fleet_common.testing.wire import modern
from fleet_gateway.carriers.models import CARRIED
from fleet_gateway.server import SERVICE, create_gateway
from fleet_gateway.settings import Settings


@pytest.fixture
async def owner() -> AsyncGenerator[Upstream]:
    async with upstream_server() as upstream:
        yield upstream


@asynccontextmanager
async def carrying(folder: Path, private: Path, *owners: Upstream) -> AsyncGenerator[str]:
    """Serve a gateway whose aiml has all `owners` as endpoints, and data the first of them."""
    for each in owners:
        for path in ("/mcp", "/readyz"):
            each.answer(path, status(404))
    settings = Settings(
        keys_file=folder / "keys.json",
        internal_private_key_file=private,
        services=(f"data={owners[0].url}", *(f"aiml={each.url}" for each in owners)),
        slots=1,
    )
    async with serving(await asyncio.to_thread(create_gateway, SERVICE, settings)) as url:
        yield url


@pytest.fixture
async def bearer(keys: KeyFile) -> dict[str, str]:
    key = await asyncio.to_thread(keys.create, name="v", roles=["viewer"], tenant="demo")
    return {"authorization": f"Bearer {key.text}"}


@pytest.fixture
async def http(
    tmp_path: Path, keypair: tuple[Path, Path], bearer: dict[str, str], owner: Upstream
) -> AsyncGenerator[httpx.AsyncClient]:
    async with (
        carrying(tmp_path, keypair[0], owner) as url,
        httpx.AsyncClient(base_url=url, headers=bearer) as client,
    ):
        yield client


async def test_a_carried_request_arrives_as_it_was_under_an_internal_token(
    http: httpx.AsyncClient, owner: Upstream, keypair: tuple[Path, Path]
) -> None:
    owner.answer("/v1/files/7", status(201, "stored", Location="/v1/files/7"))
    response = await http.put("/v1/files/7?part=2&name=a%2Fb", content=b"\x00bytes")
    assert (response.status_code, response.text) == (201, "stored")
    assert response.headers["location"] == "/v1/files/7"
    (request,) = (each for each in owner.requests if each.method == "PUT")
    assert request.raw_path == "/v1/files/7?part=2&name=a%2Fb"
    assert b"\x00bytes" in owner.bodies
    token = request.headers["authorization"].removeprefix("Bearer ")
    pem = await asyncio.to_thread(keypair[1].read_bytes)
    verified = InternalVerifier(pem, audience="aiml").verify(token)
    assert verified is not None
    assert verified[0].tenant == "demo"


@pytest.mark.parametrize(
    "path",
    [c.path.format(id="1", job="1") for c in CARRIED if c.needs_caller and "{path" not in c.path]
    + ["/v1/chat/completions"],
)
async def test_where_a_caller_is_needed_a_stranger_is_refused(
    http: httpx.AsyncClient, owner: Upstream, path: str
) -> None:
    owner.answer(path, status(200))
    response = await http.post(path, headers={"authorization": "Bearer none"})
    assert response.status_code == 401
    assert path not in owner.calls


async def test_a_signed_link_needs_no_caller_and_learns_of_none(
    http: httpx.AsyncClient, owner: Upstream
) -> None:
    owner.answer("/unsubscribe/abc", status(200, "done"))
    response = await http.get("/unsubscribe/abc")
    assert response.text == "done"
    (request,) = (each for each in owner.requests if each.path == "/unsubscribe/abc")
    assert "authorization" not in request.headers


async def test_only_what_reads_is_sent_again(http: httpx.AsyncClient, owner: Upstream) -> None:
    owner.answer("/exports/9", reset, status(200, "rows"))
    assert (await http.get("/exports/9")).text == "rows"
    owner.answer("/uploads/9", reset, status(200))
    assert (await http.post("/uploads/9", content=b"x")).status_code == 503
    assert owner.calls["/uploads/9"] == 1


async def test_what_writes_is_sent_once_though_its_owner_says_to_come_again(
    tmp_path: Path, keypair: tuple[Path, Path], bearer: dict[str, str], owner: Upstream
) -> None:
    busy, path = status(503, "half done", Retry_After="1"), "/v1/chat/completions"
    async with (
        upstream_server() as twin,
        carrying(tmp_path, keypair[0], owner, twin) as url,
        httpx.AsyncClient(base_url=url, headers=bearer) as http,
    ):
        for each in (owner, twin):
            each.answer(path, busy)
        for method in ("POST", "PUT", "DELETE"):
            answer = await http.request(method, path)
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert owner.calls[path] + twin.calls[path] == 3
        owner.answer("/v1/models", status(200, "both"))
        twin.answer("/v1/models", busy)
        for _ in range(8):
            assert (await http.get("/v1/models")).text == "both"


async def test_carried_requests_are_bounded_and_take_nothing_from_tools_and_probes(
    http: httpx.AsyncClient, owner: Upstream
) -> None:
    owner.answer("/uploads/9", owner.never)
    owner.answer("/exports/9", status(200, "rows"))
    async with asyncio.TaskGroup() as group:
        held = [group.create_task(http.put("/uploads/9", timeout=30)) for _ in range(31)]
        held.append(group.create_task(http.post("/uploads/9", timeout=30)))

        async def are_there() -> bool:
            return owner.calls["/uploads/9"] == len(held)

        await wait_until(are_there)
        refused = await http.post("/uploads/9")
        others = [
            await http.post("/mcp", **modern("tools/call", "fleet_whoami", arguments={})),
            await http.get("/livez"),
            await http.get("/exports/9"),
        ]
        for each in held:
            each.cancel()
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
    assert refused.json()["error"]["data"]["code"] == "rate_limited"
    assert [each.status_code for each in others] == [200, 200, 200]
    assert owner.calls["/uploads/9"] == len(held)
