from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import httpx
import pytest
from multidict import CIMultiDictProxy

from fleet_common.auth.keys import KeyFile
from fleet_common.testing import serving
from fleet_common.testing.upstream import Upstream, status, upstream_server
from fleet_common.testing.wire import modern
from fleet_gateway.routing.hops import HOP_BY_HOP, staying
from fleet_gateway.server import SERVICE, create_gateway
from fleet_gateway.settings import Settings


@pytest.fixture
async def service() -> AsyncGenerator[Upstream]:
    async with upstream_server() as upstream:
        for path in ("/mcp", "/readyz"):
            upstream.answer(path, status(404))
        yield upstream


@pytest.fixture
async def http(
    tmp_path: Path, keypair: tuple[Path, Path], keys: KeyFile, service: Upstream
) -> AsyncGenerator[httpx.AsyncClient]:
    key = await asyncio.to_thread(keys.create, name="v", roles=["viewer"], tenant="demo")
    settings = Settings(
        keys_file=tmp_path / "keys.json",
        internal_private_key_file=keypair[0],
        services=(f"data={service.url}",),
    )
    app = await asyncio.to_thread(create_gateway, SERVICE, settings)
    headers = {"authorization": f"Bearer {key.text}"}
    async with serving(app) as url, httpx.AsyncClient(base_url=url, headers=headers) as client:
        yield client


def sent_with(service: Upstream, name: str) -> CIMultiDictProxy[str]:
    """Return the headers of the request that has this one; the registry's own requests have none of ours."""
    return next(request.headers for request in service.requests if name in request.headers)


async def test_what_connection_names_goes_no_further_than_the_gateway(
    http: httpx.AsyncClient, service: Upstream
) -> None:
    service.answer("/mcp", status(200, "{}", Connection="X-Hop", X_Hop="2", X_End="3"))
    request = modern("tools/list")
    request["headers"] |= {"connection": "keep-alive, X-HOP", "x-hop": "1", "x-end": "4"}
    response = await http.post("/data/mcp", **request)

    sent = sent_with(service, "x-end")
    assert ("x-hop" in sent, sent["x-end"]) == (False, "4")
    assert ("x-hop" in response.headers, response.headers["x-end"]) == (False, "3")


async def test_hop_by_hop_headers_of_carried_requests_stay_behind_too(
    http: httpx.AsyncClient, service: Upstream
) -> None:
    service.answer("/unsubscribe/a", status(200))
    await http.get("/unsubscribe/a", headers={"connection": "x-hop", "x-hop": "1", "x-end": "4"})
    assert "x-hop" not in sent_with(service, "x-end")


async def test_no_client_takes_away_what_the_service_goes_by(
    http: httpx.AsyncClient, service: Upstream
) -> None:
    service.answer("/mcp", status(200, "{}"))
    names = (
        *("authorization", "mcp-method", "mcp-protocol-version", "mcp-name", "fleet-call"),
        *("content-type", "x-forwarded-for", "x-request-id"),
    )
    request = modern("tools/call", "crm_echo")
    request["headers"] |= {"connection": ", ".join(names), "x-forwarded-for": "192.0.2.1"}
    await http.post("/data/mcp", **request)

    assert set(names) <= {name.lower() for name in sent_with(service, "x-forwarded-for")}


@pytest.mark.parametrize("value", [b"keep-alive", b"close", b"", b" , "])
def test_a_plain_connection_adds_nothing(value: bytes) -> None:
    assert staying(HOP_BY_HOP, [(b"connection", value)]) - {b""} == HOP_BY_HOP
