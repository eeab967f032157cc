"""Limits and switches at the doors, on real servers, with the official clients of both eras."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import hypothesis
import pytest
from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from mcp import MCPError
from mcp.shared.inbound import encode_header_value

from fleet_common.audit import AuditLog
from fleet_common.auth.internal import InternalSigner, generate_keypair
from fleet_common.mcp import Runtime, Service
from fleet_common.mcp.app import create_app
from fleet_common.mcp.server import create_server
from fleet_common.redis import create_redis
from fleet_common.settings import ServiceSettings
from fleet_common.switches import Switchboard
from fleet_common.testing import serving, viewer, wait_until
from fleet_common.testing.audit import MemorySink
from fleet_common.testing.npm import NODE
from fleet_common.testing.wire import modern, text

NPM = Path(__file__).parent / "npm"
# Of two calls a second apart, the third, that comes at once, is one too many.
POLICY = """
version: 1
roles:
  viewer:
    scopes: ["data:read"]
    limits:
      calls: {per_minute: 60, burst: 2}
      tools:
        "fleet_*": {per_minute: 1, burst: 1}
"""


@pytest.fixture
def limited(settings: ServiceSettings, tmp_path: Path) -> ServiceSettings:
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY)
    return settings.model_copy(update={"policy_file": path})


@pytest.fixture
def runtime(service: Service[Any, Any], limited: ServiceSettings) -> Runtime:
    audit = AuditLog(MemorySink(), service=service.name)
    return replace(Runtime.create(service.name, service.version, limited), audit=audit)


@pytest.fixture
async def http(
    service: Service[Any, Any], limited: ServiceSettings, runtime: Runtime, viewer_key: str
) -> AsyncGenerator[httpx.AsyncClient]:
    make_app = partial(create_app, service, limited, runtime=runtime)
    async with (
        serving(await asyncio.to_thread(make_app)) as url,
        httpx.AsyncClient(
            base_url=url, headers={"authorization": f"Bearer {viewer_key}"}
        ) as client,
    ):
        yield client


def older(method: str, **params: Any) -> dict[str, Any]:
    """Return the arguments of a raw request of the handshake era."""
    headers = {
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": "2025-06-18",
    }
    return {
        "json": {"jsonrpc": "2.0", "id": 1, "method": method, "params": params},
        "headers": headers,
    }


REQUESTS = {
    "modern": lambda name: modern("tools/call", name, arguments={}),
    "older": lambda name: older("tools/call", name=name, arguments={}),
}


@pytest.mark.parametrize("era", REQUESTS)
async def test_a_call_over_the_limit_is_429_with_the_wait_in_header_and_body(
    http: httpx.AsyncClient, era: str
) -> None:
    answers = [await http.post("/mcp", **REQUESTS[era]("note_list")) for _ in range(3)]
    assert [each.status_code for each in answers] == [200, 200, 429]
    error = answers[2].json()["error"]
    assert answers[2].headers["retry-after"] == "1"
    assert (error["code"], error["data"]["code"]) == (429, "rate_limited")
    assert 0 < error["data"]["retryAfterMs"] <= 1000


@pytest.mark.parametrize("era", REQUESTS)
async def test_a_tool_has_a_limit_of_its_own_in_either_era(
    http: httpx.AsyncClient, era: str
) -> None:
    answers = [await http.post("/mcp", **REQUESTS[era]("fleet_whoami")) for _ in range(2)]
    assert [each.status_code for each in answers] == [200, 429]
    assert "this tool" in answers[1].json()["error"]["message"]
    assert (await http.post("/mcp", **REQUESTS[era]("note_list"))).status_code == 200


@pytest.mark.parametrize("era", REQUESTS)
async def test_every_shed_is_audited_with_the_caller_and_what_it_wanted(
    http: httpx.AsyncClient, runtime: Runtime, era: str
) -> None:
    for _ in range(2):
        await http.post("/mcp", **REQUESTS[era]("fleet_whoami"))
    sink = runtime.audit.sink
    assert isinstance(sink, MemorySink)

    async def are_written() -> bool:
        return len(sink.events) == 2

    await wait_until(are_written)  # refusals are gathered for a moment
    done, shed = sorted(sink.events, key=lambda event: str(event["decision"]))
    assert (done["decision"], shed["decision"]) == ("allow", "shed")
    assert (shed["action"], shed["target"]) == ("tool", "fleet_whoami")
    assert (shed["rule"], shed["tenant"]) == ("rate_limited", "demo")
    assert shed["subject"] == done["subject"]


async def test_a_name_written_in_base64_counts_as_the_tool_it_names(
    http: httpx.AsyncClient,
) -> None:
    request = modern("tools/call", "fleet_whoami", arguments={})
    disguised = f"=?base64?{'ZmxlZXRfd2hvYW1p'}?="
    assert encode_header_value(disguised) != disguised
    answers = []
    for name in ("fleet_whoami", disguised):
        headers = request["headers"] | {"mcp-name": name}
        answers.append(await http.post("/mcp", json=request["json"], headers=headers))
    assert [each.status_code for each in answers] == [200, 429]


async def test_lists_have_their_own_bucket(http: httpx.AsyncClient) -> None:
    calls = [await http.post("/mcp", **modern("tools/call", "note_list")) for _ in range(3)]
    first = await http.post("/mcp", **modern("prompts/list"))
    lists = await asyncio.gather(*(http.post("/mcp", **modern("prompts/list")) for _ in range(50)))
    assert [each.status_code for each in calls] == [200, 200, 429]
    assert first.status_code == 200
    assert {each.status_code for each in lists} == {200, 429}


async def test_both_doors_draw_on_the_same_bucket_and_probes_on_none(
    http: httpx.AsyncClient,
) -> None:
    doors = ["/mcp", "/key/mcp", "/mcp"]
    answers = [await http.post(door, **modern("tools/call", "note_list")) for door in doors]
    probes = [await http.get(path) for path in ("/livez", "/readyz", "/metrics") for _ in range(3)]
    assert [each.status_code for each in answers] == [200, 200, 429]
    assert {each.status_code for each in probes} == {200}


async def test_answers_say_what_is_left(http: httpx.AsyncClient) -> None:
    response = await http.post("/mcp", **modern("tools/call", "note_list"))
    assert response.headers["ratelimit-policy"] == '"calls";q=2;w=2'
    assert response.headers["ratelimit"] == '"calls";r=1'


async def test_what_the_gateway_has_counted_is_not_counted_again(
    service: Service[Any, Any], limited: ServiceSettings, tmp_path: Path
) -> None:
    private, public = generate_keypair()
    pem = tmp_path / "public.pem"
    pem.write_bytes(public)
    config = limited.model_copy(update={"internal_public_key_file": pem})
    token = InternalSigner(private).mint(viewer(), audience="data")
    async with (
        serving(await asyncio.to_thread(create_app, service, config)) as url,
        httpx.AsyncClient(base_url=url, headers={"authorization": f"Bearer {token}"}) as client,
    ):
        answers = [await client.post("/mcp", **modern("tools/call", "note_list")) for _ in "1234"]
    assert {each.status_code for each in answers} == {200}


async def test_a_body_that_must_be_read_is_read_up_to_its_limit(http: httpx.AsyncClient) -> None:
    large = older("tools/call", name="note_get", arguments={"note_id": "x" * 5_000_000})
    assert (await http.post("/mcp", **large)).status_code == 413


PARAMS = st.recursive(
    st.none() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2)
    ),
    max_leaves=4,
)
BODIES = (
    st.binary(max_size=40)
    | st.sampled_from([b"[" * 5000, b'{"id":' + b"9" * 5000 + b"}", b'{"method":"\xff"}'])
    | st.fixed_dictionaries({"method": st.text(max_size=9) | st.none(), "params": PARAMS}).map(
        lambda message: json.dumps(message).encode()
    )
)


@hypothesis.settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    body=BODIES,
    headers=st.fixed_dictionaries(
        {},
        optional={
            "mcp-protocol-version": st.sampled_from(["2026-07-28", "2025-06-18", "x"]),
            "mcp-method": st.sampled_from(["tools/call", "tools/list", "x"]),
            "mcp-name": st.text("a/=?~", max_size=8) | st.just("=?base64?!?="),
        },
    ),
)
async def test_nothing_malformed_is_a_server_error(
    http: httpx.AsyncClient, body: bytes, headers: dict[str, str]
) -> None:
    usual = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
    response = await http.post("/mcp", content=body, headers=usual | headers)
    assert response.status_code < 500
    assert "Traceback" not in response.text


async def test_in_memory_callers_are_counted_by_the_middleware(
    service: Service[Any, Any], limited: ServiceSettings
) -> None:
    server = create_server(service, limited, local_principal=viewer())
    async with Client(server) as client:
        results = [await client.call_tool("note_list", raise_on_error=False) for _ in range(3)]
        with pytest.raises(MCPError) as refused:
            await client.read_resource("note://1")
    assert [result.is_error for result in results] == [False, False, True]
    assert text(results[2]).startswith("rate_limited: your calls are used up")
    assert refused.value.error.code == 429


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_python_client_reads_the_refusal_and_goes_on(
    http: httpx.AsyncClient, viewer_key: str, mode: Any
) -> None:
    transport = StreamableHttpTransport(f"{http.base_url}/mcp", auth=viewer_key)
    async with Client(transport, mode=mode) as client:
        for _ in range(2):
            await client.call_tool("note_list")
        with pytest.raises(MCPError) as refused:
            await client.call_tool("note_list")
        await asyncio.sleep(refused.value.error.data["retryAfterMs"] / 1000)
        assert not (await client.call_tool("note_list")).is_error
    assert refused.value.error.code == 429
    assert refused.value.error.data["code"] == "rate_limited"


@pytest.mark.timeout(60)  # Node takes seconds to start where everything is busy
@pytest.mark.parametrize("era", ["modern", "handshake"])
async def test_the_typescript_client_reads_the_refusal_and_goes_on(
    http: httpx.AsyncClient, viewer_key: str, typescript: Path, era: str
) -> None:
    arguments: list[str | Path] = [
        typescript,
        era,
        f"{http.base_url}/mcp",
        viewer_key,
        "note_list",
        "4",
    ]
    process = await asyncio.create_subprocess_exec(
        NODE, NPM / "calls.mjs", *arguments, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    outcomes = [json.loads(line) for line in output.splitlines()]
    assert process.returncode == 0
    assert [each["outcome"] for each in outcomes] == ["ok", "ok", "refused", "ok"]
    assert outcomes[2]["status"] == 429
    assert outcomes[2]["error"]["data"]["code"] == "rate_limited"


@pytest.fixture
async def board(redis_url: str) -> AsyncGenerator[Switchboard]:
    redis = create_redis(redis_url, timeout_s=8)
    yield Switchboard(redis)
    await redis.aclose(close_connection_pool=True)
