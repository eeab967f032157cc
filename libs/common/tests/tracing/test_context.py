from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet_common.tracing import TraceContext

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_valid_header_gives_its_parts() -> None:
    context = TraceContext.of(PARENT, "vendor=1")
    assert context is not None
    assert f"{context.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c"
    assert f"{context.span_id:016x}" == "b7ad6b7169203331"
    assert (context.flags, context.tracestate) == (1, "vendor=1")


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "nonsense",
        PARENT.upper(),
        f"{PARENT}-more",
        "01" + PARENT[2:],
        "00-" + "0" * 32 + "-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-" + "0" * 16 + "-01",
    ],
)
def test_anything_else_is_as_good_as_absent(header: str | None) -> None:
    assert TraceContext.of(header, None) is None


def test_a_long_tracestate_is_dropped_and_the_parent_kept() -> None:
    assert TraceContext.of(PARENT, "v=" + "x" * 600) == TraceContext(PARENT, None)


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")])
def test_the_meta_of_a_request_carries_it_too(separators: tuple[str, str]) -> None:
    meta = {"traceparent": PARENT, "tracestate": "a=1,b=2"}
    message = {"jsonrpc": "2.0", "id": 1, "params": {"name": "x", "_meta": meta}}
    body = json.dumps(message, separators=separators).encode()
    assert TraceContext.in_body(body) == TraceContext(PARENT, "a=1,b=2")


def test_text_about_a_traceparent_inside_an_argument_is_not_one() -> None:
    quoted = json.dumps({"params": {"arguments": {"text": f'"traceparent": "{PARENT}"'}}})
    assert TraceContext.in_body(quoted.encode()) is None


@settings(deadline=None)
@given(st.binary(max_size=2000))
def test_no_body_upsets_the_search(body: bytes) -> None:
    TraceContext.in_body(b'{"traceparent":"' + body)
