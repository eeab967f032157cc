from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport
from starlette.responses import PlainTextResponse

from fleet_common.auth.internal import InternalSigner, generate_keypair
from fleet_common.auth.keys import KeyFile
from fleet_common.auth.usage import KeyUsage
from fleet_common.mcp import Runtime, Service
from fleet_common.mcp.app import (
    LateDoors,
    assemble,
    create_app,
    create_open_app,
    door_pair,
    open_credentials,
)
from fleet_common.redis import create_redis
from fleet_common.settings import ServiceSettings, SettingsError
from fleet_common.testing import principal, serving, viewer, wait_until
from fleet_common.testing.wire import MODERN, answer, modern


@pytest.fixture
async def http(
    service: Service[Any, Any], settings: ServiceSettings, viewer_key: str
) -> AsyncGenerator[httpx.AsyncClient]:
    async with (
        serving(await asyncio.to_thread(create_app, service, settings)) as url,
        httpx.AsyncClient(
            base_url=url, headers={"authorization": f"Bearer {viewer_key}"}
        ) as client,
    ):
        yield client


@pytest.mark.parametrize("path", ["/mcp", "/key/mcp"])
@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_client_of_either_era_calls_tools_at_either_door(
    http: httpx.AsyncClient, viewer_key: str, path: str, mode: Any
) -> None:
    transport = StreamableHttpTransport(f"{http.base_url}{path}", auth=viewer_key)
    async with Client(transport, mode=mode) as client:
        assert (await client.call_tool("note_get", {"note_id": "2"})).data == "second"


@pytest.mark.parametrize("path", ["/mcp", "/key/mcp"])
@pytest.mark.parametrize(
    "headers",
    [{}, {"authorization": "Bearer fleet_00000000_wrong"}, {"x-api-key": "wrong"}],
    ids=str,
)
async def test_without_a_valid_key_there_is_a_401_and_a_challenge(
    http: httpx.AsyncClient, path: str, headers: dict[str, str]
) -> None:
    request = modern("tools/list")
    async with httpx.AsyncClient(base_url=http.base_url) as stranger:
        response = await stranger.post(
            path, json=request["json"], headers=request["headers"] | headers
        )
    assert response.status_code == 401
    assert response.headers["www-authenticate"].startswith("Bearer")
    assert "resource_metadata" not in response.headers["www-authenticate"]


async def test_the_key_may_come_as_x_api_key(http: httpx.AsyncClient, viewer_key: str) -> None:
    request = modern("tools/call", "fleet_whoami")
    async with httpx.AsyncClient(base_url=http.base_url) as other:
        response = await other.post(
            "/mcp", json=request["json"], headers=request["headers"] | {"x-api-key": viewer_key}
        )
    assert answer(response)["result"]["structuredContent"]["credential"] == "key"


async def test_the_use_of_a_key_is_written_down_when_the_process_ends_at_the_latest(
    service: Service[Any, Any], keys_path: Path, viewer_key: str, redis_url: str
) -> None:
    settings = ServiceSettings(keys_file=keys_path, redis_url=redis_url)
    request = modern("tools/call", "fleet_whoami")
    headers = request["headers"] | {"authorization": f"Bearer {viewer_key}"}
    async with (
        serving(await asyncio.to_thread(create_app, service, settings)) as url,
        httpx.AsyncClient(base_url=url) as client,
    ):
        await client.post("/key/mcp", json=request["json"], headers=headers)
    redis = create_redis(redis_url, timeout_s=8)
    used = await KeyUsage(redis).read()
    await redis.aclose(close_connection_pool=True)
    assert datetime.now(UTC) - used[viewer_key.split("_")[1]] < timedelta(minutes=1)


async def test_an_internal_token_opens_the_first_door_only(
    service: Service[Any, Any], keys_path: Path, tmp_path: Path
) -> None:
    private, public = generate_keypair()
    pem = tmp_path / "public.pem"
    pem.write_bytes(public)
    settings = ServiceSettings(keys_file=keys_path, internal_public_key_file=pem)
    token = InternalSigner(private).mint(principal("sales", tenant="acme"), audience="data")
    request = modern("tools/call", "fleet_whoami")
    headers = request["headers"] | {"authorization": f"Bearer {token}"}
    async with (
        serving(await asyncio.to_thread(create_app, service, settings)) as url,
        httpx.AsyncClient(base_url=url) as client,
    ):
        opened = await client.post("/mcp", json=request["json"], headers=headers)
        refused = await client.post("/key/mcp", json=request["json"], headers=headers)
    who = answer(opened)["result"]["structuredContent"]
    assert (who["tenant"], who["credential"]) == ("acme", "internal")
    assert refused.status_code == 401


@pytest.mark.parametrize(
    ("header", "value", "status"),
    [("host", "evil.example", 421), ("origin", "https://evil.example", 403)],
)
@pytest.mark.parametrize("path", ["/mcp", "/key/mcp", "/metrics"])
async def test_a_foreign_host_or_origin_is_refused(
    http: httpx.AsyncClient, path: str, header: str, value: str, status: int
) -> None:
    request = modern("tools/list")
    own = {"origin": str(http.base_url)}
    for headers in ({}, {header: value}, own, own | {header: value}, {"host": "evil", **own}):
        response = await http.post(path, json=request["json"], headers=request["headers"] | headers)
        refusal = 421 if "host" in headers else status
        is_foreign = value in headers.values() or "host" in headers
        assert (response.status_code == refusal) is is_foreign, headers
        if is_foreign:
            code = "misdirected" if refusal == 421 else "permission_denied"
            assert response.json()["error"]["data"]["code"] == code


async def test_probes_answer_whatever_the_host(http: httpx.AsyncClient) -> None:
    for path in ("/livez", "/readyz", "/startupz"):
        assert (await http.get(path, headers={"host": "10.1.2.3"})).status_code == 200


async def test_metrics_count_what_happened(http: httpx.AsyncClient) -> None:
    await http.post("/mcp", **modern("tools/call", "note_crash", arguments={}))
    await http.post("/mcp", **modern("tools/call", "no_such_tool", arguments={}))
    text = (await http.get("/metrics")).text
    assert 'mcp_tool_calls_total{outcome="internal",service="data",tool="note_crash"} 1.0' in text
    assert 'mcp_tool_calls_total{outcome="unknown_tool",service="data",tool="_unknown"} 1.0' in text
    assert 'mcp_tool_answer_chars_total{service="data",tool="note_crash"}' in text
    assert 'mcp_requests_started_total{service="data"} 2.0' in text
    assert 'mcp_admission_inflight{service="data"} 0.0' in text


async def test_a_request_id_is_kept_when_it_is_harmless(http: httpx.AsyncClient) -> None:
    kept = await http.get("/livez", headers={"x-request-id": "abc-12345"})
    made = await http.get("/livez", headers={"x-request-id": "a b\tc<script>"})
    assert kept.headers["x-request-id"] == "abc-12345"
    assert len(made.headers["x-request-id"]) == 16


async def test_a_client_that_hangs_up_cancels_the_tool(
    service: Service[Any, Any], settings: ServiceSettings, viewer_key: str
) -> None:
    opened: list[Any] = []

    @asynccontextmanager
    async def open_and_tell(config: ServiceSettings, runtime: Runtime) -> AsyncGenerator[Any]:
        async with service.open_deps(config, runtime) as notes:
            opened.append(notes)
            yield notes

    told = Service(**{**vars(service), "open_deps": open_and_tell})
    request = modern("tools/call", "note_sleep", arguments={})
    request["headers"]["authorization"] = f"Bearer {viewer_key}"
    async with (
        serving(await asyncio.to_thread(create_app, told, settings)) as url,
        httpx.AsyncClient() as client,
    ):
        call = asyncio.create_task(client.post(f"{url}/mcp", **request))
        async with asyncio.timeout(5):
            await opened[0].started.wait()
            call.cancel()
            await opened[0].cancelled.wait()


async def test_a_full_house_sheds_with_503_and_retry_after_and_probes_still_answer(
    service: Service[Any, Any], keys_path: Path, viewer_key: str
) -> None:
    settings = ServiceSettings(keys_file=keys_path, slots=1, queue=0)
    async with (
        serving(await asyncio.to_thread(create_app, service, settings)) as url,
        httpx.AsyncClient(
            base_url=url, headers={"authorization": f"Bearer {viewer_key}"}
        ) as client,
    ):
        sleeping = asyncio.create_task(
            client.post("/mcp", **modern("tools/call", "note_sleep", arguments={}))
        )

        async def is_full() -> bool:
            return 'inflight{service="data"} 1.0' in (await client.get("/metrics")).text

        await wait_until(is_full)
        shed = await client.post("/mcp", **modern("tools/list"))
        alive = await client.get("/readyz")
        sleeping.cancel()
    assert (shed.status_code, shed.headers["retry-after"]) == (503, "1")
    assert shed.json()["error"]["data"]["code"] == "overloaded"
    assert alive.status_code == 200


async def test_cors_answers_listed_origins_only(
    service: Service[Any, Any], keys_path: Path, viewer_key: str
) -> None:
    settings = ServiceSettings(keys_file=keys_path, allowed_origins=("https://app.example",))
    preflight = {"access-control-request-method": "POST"}
    async with (
        serving(await asyncio.to_thread(create_app, service, settings)) as url,
        httpx.AsyncClient(base_url=url) as client,
    ):
        good = await client.options("/mcp", headers=preflight | {"origin": "https://app.example"})
        bad = await client.options("/mcp", headers=preflight | {"origin": "https://evil.example"})
    assert good.headers["access-control-allow-origin"] == "https://app.example"
    assert "access-control-allow-origin" not in bad.headers


BODIES = {
    "not json": b"{",
    "deep": b"[" * 100_000,
    "big number": b'{"jsonrpc":"2.0","id":' + b"9" * 5000 + b"}",
    "batch": b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]',
    "empty": b"",
    "null": b"null",
    "not utf-8": b'{"jsonrpc":"2.0","method":"\xff"}',
    "no method": b'{"jsonrpc":"2.0","id":1}',
    "unknown method": b'{"jsonrpc":"2.0","id":1,"method":"no/such"}',
    "params is a list": b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":[1]}',
    "name is a number": b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":7}}',
    "too large": b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":"' + b"x" * 5_000_000 + b'"}}',
}  # fmt: skip


@pytest.mark.parametrize("version", [MODERN, "2025-11-25", None, "1999-01-01", "x\ty"])
async def test_malformed_messages_never_cause_a_server_error(
    http: httpx.AsyncClient, version: str | None
) -> None:
    headers = {
        "accept": "application/json, text/event-stream",
        "content-type": "application/json",
        **({"mcp-protocol-version": version} if version else {}),
    }
    for what, body in BODIES.items():
        response = await http.post("/mcp", content=body, headers=headers)
        assert response.status_code < 500, what
        assert "Traceback" not in response.text, what


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"mcp-name": "note_list"}, 400),
        ({"mcp-method": "tools/list"}, 400),
        ({"accept": "text/html"}, 406),
        ({"content-type": "text/plain"}, 400),
    ],
    ids=str,
)
async def test_headers_that_contradict_the_body_are_refused(
    http: httpx.AsyncClient, change: dict[str, str], status: int
) -> None:
    request = modern("tools/call", "note_get", arguments={"note_id": "1"})
    content = json.dumps(request["json"]).encode()
    headers = {"content-type": "application/json"} | request["headers"] | change
    response = await http.post("/mcp", content=content, headers=headers)
    assert response.status_code == status


async def test_other_methods_are_refused(http: httpx.AsyncClient) -> None:
    for method in ("GET", "DELETE", "PUT"):
        response = await http.request(method, "/mcp", headers={"mcp-protocol-version": MODERN})
        assert response.status_code == 405


def test_without_a_key_file_nobody_could_be_let_in_so_the_start_is_refused(
    service: Service[Any, Any],
) -> None:
    with pytest.raises(SettingsError, match="KEYS_FILE is not set"):
        create_app(service, ServiceSettings())


def test_an_unreadable_public_key_stops_the_start(
    service: Service[Any, Any], keys_path: Path
) -> None:
    settings = ServiceSettings(keys_file=keys_path, internal_public_key_file=Path("/nowhere.pem"))
    with pytest.raises(SettingsError, match=r"INTERNAL_PUBLIC_KEY_FILE: cannot read /nowhere\.pem"):
        create_app(service, settings)


async def test_the_open_app_serves_its_one_caller(service: Service[Any, Any]) -> None:
    app = create_open_app(service, ServiceSettings(), viewer())
    async with serving(app) as url, Client(f"{url}/mcp") as client:
        assert (await client.call_tool("note_get", {"note_id": "1"})).data == "first"


async def test_a_revoked_key_is_out_without_a_restart(
    http: httpx.AsyncClient, keys_path: Path, viewer_key: str
) -> None:
    assert (await http.post("/mcp", **modern("tools/list"))).status_code == 200
    await asyncio.to_thread(KeyFile(keys_path).revoke, viewer_key.split("_")[1])

    async def is_out() -> bool:
        return (await http.post("/mcp", **modern("tools/list"))).status_code == 401

    await wait_until(is_out)


async def test_doors_open_and_close_while_the_process_runs(
    settings: ServiceSettings, viewer_key: str
) -> None:
    run = Runtime.create("gateway", "1", settings)

    @asynccontextmanager
    async def lifespan(_app: Any) -> AsyncGenerator[None]:
        yield

    late = LateDoors()
    app = await asyncio.to_thread(assemble, [], settings, run, lifespan=lifespan, late=late)
    credentials = await asyncio.to_thread(open_credentials, settings, run)
    behind = PlainTextResponse("behind the door")

    async def status(path: str, **headers: str) -> int:
        return (await client.post(path, headers=headers, json={})).status_code

    async with serving(app) as url, httpx.AsyncClient(base_url=url) as client:
        assert await status("/data/mcp") == 404
        late.open("data", door_pair(behind, credentials, service="data", prefix="/data"))
        for path in ("/data/mcp", "/data/key/mcp"):
            assert await status(path) == 401
            assert await status(path, authorization=f"Bearer {viewer_key}") == 200
        late.close("data")
        assert await status("/data/mcp") == 404
