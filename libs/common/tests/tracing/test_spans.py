from __future__ import annotations

import asyncio

import pytest

from fleet_common.errors import NotFound
from fleet_common.logs import request_context
from fleet_common.testing.collector import Collector
from fleet_common.tracing import ClientSpan, Tracing, describe, failed, is_recording

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SECRETS = {"authorization": "Bearer abcdefgh12345678", "url": "postgres://u:hunter22@db/x"}


async def test_a_client_span_is_a_child_of_the_request_being_served(
    tracing: Tracing, spans: Collector
) -> None:
    async with tracing.opened():
        with tracing.request(None, "POST", {}), ClientSpan("GET", lambda: {"a": 1}) as span:
            header = span.traceparent
            span.answered(404)
    child, parent = await spans.wait_for(2)
    assert (child.name, child.kind, parent.kind) == ("GET", 3, 2)
    assert (child.parent_id, child.trace_id) == (parent.span_id, parent.trace_id)
    assert header is not None
    assert header.startswith(f"00-{child.trace_id}-{child.span_id}-")
    assert child.attributes == {"a": 1, "http.response.status_code": 404, "error.type": "404"}
    assert child.is_error
    assert not parent.is_error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotFound("contact", "hunter22"), "not_found"),
        (ValueError("hunter22"), "ValueError"),
        (asyncio.CancelledError("hunter22"), "cancelled"),
    ],
)
async def test_an_exception_leaves_its_code_and_never_its_text(
    tracing: Tracing, spans: Collector, error: BaseException, code: str
) -> None:
    async with tracing.opened():
        with (
            pytest.raises(type(error)),
            tracing.request(None, "POST", {}),
            ClientSpan("GET", dict),
        ):
            raise error
    for span in await spans.wait_for(2):
        assert span.attributes["error.type"] == code
        assert span.is_error
    assert b"hunter22" not in b"".join(spans.raw)


async def test_secrets_in_attributes_are_redacted(tracing: Tracing, spans: Collector) -> None:
    async with tracing.opened():
        with tracing.request(None, "POST", {}), ClientSpan("GET", lambda: SECRETS):
            pass
    await spans.wait_for(2)
    sent = b"".join(spans.raw)
    assert b"hunter22" not in sent
    assert b"abcdefgh12345678" not in sent


async def test_the_request_is_named_by_what_it_turned_out_to_be(
    tracing: Tracing, spans: Collector
) -> None:
    async with tracing.opened():
        with tracing.request(None, "POST", {}) as (_, span):
            assert span is not None
            describe("tools/call", "note_get")
            span.answered(200, "/mcp")
            failed("not_found")
        with tracing.request(None, "GET", {}) as (_, span):
            assert span is not None
            span.answered(503, "/exports/{job}")
    call, download = await spans.wait_for(2)
    assert call.name == "tools/call note_get"
    assert call.attributes == {
        "mcp.method.name": "tools/call",
        "gen_ai.tool.name": "note_get",
        "http.response.status_code": 200,
        "http.route": "/mcp",
        "error.type": "not_found",
    }
    assert download.name == "GET /exports/{job}"
    assert download.attributes["error.type"] == "503"


def test_outside_a_recorded_request_nothing_happens() -> None:
    describe("tools/call", "note_get")
    failed("internal")
    with request_context(traceparent=PARENT), ClientSpan("GET", lambda: 1 / 0) as span:  # type: ignore[arg-type,return-value]  # must not be called
        span.answered(500)
        assert span.traceparent == PARENT
    assert not is_recording()
