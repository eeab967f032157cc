from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastmcp import Client
from structlog.testing import capture_logs

from fleet_common.auth.keys import KeyFile
from fleet_common.logs import merge_request_facts
from fleet_common.mcp import Runtime, Service
from fleet_common.mcp.app import create_app
from fleet_common.mcp.requests import StdioRequests
from fleet_common.mcp.server import create_server
from fleet_common.settings import ServiceSettings
from fleet_common.testing import serving, viewer, wait_until
from fleet_common.testing.collector import Collector, collector
from fleet_common.testing.wire import answer, modern

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"
SECRET = "ghp_abcdefghijklmnopqrstuvwxyz0123"
HEADERS = {"content-type": "application/json", "accept": "application/json, text/event-stream"}


def legacy(name: str, meta: dict[str, Any] | None = None, **arguments: Any) -> dict[str, Any]:
    """Return the arguments of a raw call of the handshake era."""
    params = {"name": name, "arguments": arguments, **({"_meta": meta} if meta else {})}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    return {"json": body, "headers": {**HEADERS, "mcp-protocol-version": "2025-11-25"}}


def in_era(era: str, name: str, meta: dict[str, Any], **arguments: Any) -> dict[str, Any]:
    if era == "legacy":
        return legacy(name, meta, **arguments)
    request = modern("tools/call", name, arguments=arguments)
    request["json"]["params"]["_meta"].update(meta)
    return request


@pytest.fixture
def sales_key(keys_path: Path) -> str:
    return KeyFile(keys_path).create(name="sales", roles=["sales"], tenant="demo").text


@pytest.fixture
async def http(
    service: Service[Any, Any], settings: ServiceSettings, sales_key: str
) -> AsyncGenerator[httpx.AsyncClient]:
    app = await asyncio.to_thread(create_app, service, settings)
    headers = {"authorization": f"Bearer {sales_key}"}
    async with serving(app) as url, httpx.AsyncClient(base_url=url, headers=headers) as client:
        yield client


@pytest.fixture
async def spans() -> AsyncGenerator[Collector]:
    async with collector() as spans:
        yield spans


@pytest.fixture
async def traced(
    service: Service[Any, Any], settings: ServiceSettings, sales_key: str, spans: Collector
) -> AsyncGenerator[httpx.AsyncClient]:
    on = settings.model_copy(update={"tracing_endpoint": spans.url})
    app = await asyncio.to_thread(create_app, service, on)
    headers = {"authorization": f"Bearer {sales_key}"}
    async with serving(app) as url, httpx.AsyncClient(base_url=url, headers=headers) as client:
        yield client


@pytest.mark.parametrize("era", ["modern", "legacy"])
@pytest.mark.parametrize("place", ["header", "meta"])
async def test_off_the_clients_trace_id_is_in_every_log_line_and_error(
    http: httpx.AsyncClient, era: str, place: str
) -> None:
    request = in_era(
        era, "note_get", {"traceparent": PARENT} if place == "meta" else {}, note_id="9"
    )
    extra = {"traceparent": PARENT} if place == "header" else {}
    with capture_logs(processors=[merge_request_facts]) as lines:
        response = await http.post(
            "/mcp", json=request["json"], headers={**request["headers"], **extra}
        )
    error = answer(response)["result"]["_meta"]["fleet/error"]
    assert (error["code"], error["traceId"]) == ("not_found", TRACE_ID)
    assert response.headers["x-trace-id"] == TRACE_ID
    assert [line["trace_id"] for line in lines if line["event"] == "tool_called"] == [TRACE_ID]


async def test_a_shed_call_names_the_trace_although_its_body_was_never_parsed(
    service: Service[Any, Any], settings: ServiceSettings, sales_key: str
) -> None:
    full = settings.model_copy(update={"slots": 1, "queue": 0})
    app = await asyncio.to_thread(create_app, service, full)
    headers = {"authorization": f"Bearer {sales_key}"}
    async with serving(app) as url, httpx.AsyncClient(base_url=url, headers=headers) as client:
        blocking = asyncio.create_task(client.post("/mcp", **legacy("note_sleep")))

        async def is_full() -> bool:
            return (
                'mcp_admission_inflight{service="data"} 1.0' in (await client.get("/metrics")).text
            )

        await wait_until(is_full)
        shed = await client.post("/mcp", **legacy("note_get", {"traceparent": PARENT}, note_id="1"))
        data = shed.json()["error"]["data"]
        blocking.cancel()
    assert (data["code"], data["traceId"]) == ("overloaded", TRACE_ID)


async def test_a_refused_credential_is_answered_with_the_trace_too(http: httpx.AsyncClient) -> None:
    headers = {"authorization": "Bearer nobody", "traceparent": PARENT}
    response = await http.post("/mcp", headers=headers)
    assert (response.status_code, response.headers["x-trace-id"]) == (401, TRACE_ID)


@pytest.mark.parametrize("on", [True, False])
async def test_a_request_over_stdio_has_its_ids_and_its_span_too(
    service: Service[Any, Any], settings: ServiceSettings, spans: Collector, on: bool
) -> None:
    more = {"tracing_endpoint": spans.url} if on else {}
    run = Runtime.create(service.name, "1", settings.model_copy(update=more))
    server = create_server(service, settings, runtime=run, local_principal=viewer())
    server.middleware.insert(0, StdioRequests(run.tracing))
    with capture_logs(processors=[merge_request_facts]) as lines:
        async with Client(server) as client:
            result = await client.call_tool(
                "note_get", {"note_id": "9"}, meta={"traceparent": PARENT}, raise_on_error=False
            )
    assert result.meta is not None
    assert result.meta["fleet/error"]["traceId"] == TRACE_ID
    (line,) = [line for line in lines if line["event"] == "tool_called"]
    assert line["trace_id"] == TRACE_ID
    assert len(line["request_id"]) == 16
    called = [(s.trace_id, s.attributes["error.type"]) for s in spans.spans if "note" in s.name]
    assert called == ([(TRACE_ID, "not_found")] if on else [])


async def test_off_nobodys_trace_is_invented(http: httpx.AsyncClient) -> None:
    response = await http.post("/mcp", **legacy("note_get", note_id="9"))
    assert "traceId" not in answer(response)["result"]["_meta"]["fleet/error"]


async def test_a_body_in_pieces_arrives_whole(http: httpx.AsyncClient) -> None:
    request = legacy("note_write", {"traceparent": PARENT}, text="x" * 200_000)
    body = json.dumps(request["json"]).encode()

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 10_000):
            yield body[start : start + 10_000]

    response = await http.post("/mcp", content=pieces(), headers=request["headers"])
    text = answer(response)["result"]["content"][0]["text"]
    assert text == "demo: " + "x" * 200_000


@pytest.mark.parametrize("era", ["modern", "legacy"])
@pytest.mark.parametrize(
    ("call", "error"),
    [
        (("note_get", {"note_id": "1"}), None),
        (("note_get", {"note_id": SECRET}), "not_found"),
        (("note_crash", {}), "internal"),
        (("note_write", {"text": SECRET}), None),
        ((f"no_{SECRET}", {}), "unknown_tool"),
    ],
)
async def test_on_a_call_is_one_span_below_the_clients_without_any_of_its_words(
    traced: httpx.AsyncClient,
    spans: Collector,
    era: str,
    call: tuple[str, dict[str, str]],
    error: str | None,
) -> None:
    tool, arguments = call
    await traced.post("/mcp", **in_era(era, tool, {"traceparent": PARENT}, **arguments))
    (span,) = await spans.wait_for(1)
    assert (span.trace_id, span.parent_id) == (TRACE_ID, PARENT[36:52])
    assert span.attributes.get("error.type") == error
    assert span.attributes["http.route"] == "/mcp"
    if error != "unknown_tool":
        assert span.name == f"tools/call {tool}"
        assert span.attributes["gen_ai.tool.name"] == tool
        assert span.attributes["mcp.method.name"] == "tools/call"
    sent = b"".join(spans.raw)
    assert SECRET.encode() not in sent
    assert b"secret@host" not in sent
    assert traced.headers["authorization"].removeprefix("Bearer ").encode() not in sent


async def test_on_an_error_names_a_trace_that_begins_here(
    traced: httpx.AsyncClient, spans: Collector
) -> None:
    response = await traced.post("/mcp", **legacy("note_get", note_id="9"))
    (span,) = await spans.wait_for(1)
    assert answer(response)["result"]["_meta"]["fleet/error"]["traceId"] == span.trace_id


async def test_on_resources_prompts_and_refusals_have_spans_and_probes_have_none(
    traced: httpx.AsyncClient, spans: Collector
) -> None:
    await traced.get("/livez")
    await traced.get("/metrics")
    request = modern("resources/read", uri="note://crash")
    await traced.post(
        "/mcp", json=request["json"], headers={**request["headers"], "mcp-name": "note://crash"}
    )
    await traced.post("/mcp", **modern("prompts/get", "note_review", arguments={"note_id": "1"}))
    await traced.post("/mcp", headers={"authorization": "Bearer nobody"})
    await traced.post("/mcp", **modern("tools/list"))
    read, prompt, refused, listed = await spans.wait_for(4)
    assert (listed.name, listed.attributes["mcp.method.name"]) == ("tools/list", "tools/list")
    assert (read.name, read.attributes["error.type"]) == ("resources/read", "internal")
    assert prompt.name == "prompts/get"
    assert (refused.name, refused.attributes["http.response.status_code"]) == ("POST /mcp", 401)
