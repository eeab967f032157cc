from __future__ import annotations

import json
from typing import Any

import pytest

from fleet_common.errors import UpstreamFailed
from fleet_gateway.lists.sources import message_of, page_of

GOOD = {"name": "crm_get"}
INFO = "io.modelcontextprotocol/serverInfo"


def page(**result: Any) -> Any:
    return page_of("tools/list", {"result": {"tools": [GOOD], **result}})


@pytest.mark.parametrize(
    "row",
    [
        "text",
        None,
        [],
        {},
        {"name": ""},
        {"name": 7},
        {"name": "x", "annotations": "reads"},
        {"name": "x", "inputSchema": [1]},
        {"name": "x", "description": "\ud800"},
        {"name": "x", "size": float("nan")},
    ],
)
def test_a_malformed_row_is_an_upstream_failure(row: Any) -> None:
    with pytest.raises(UpstreamFailed):
        page(tools=[GOOD, row])


@pytest.mark.parametrize("ttl_ms", ["soon", None, -1, float("nan"), [1]])
def test_a_time_to_live_that_is_no_time_is_an_upstream_failure(ttl_ms: Any) -> None:
    with pytest.raises(UpstreamFailed):
        page(ttlMs=ttl_ms)


@pytest.mark.parametrize("ttl_ms", [float("inf"), 10**400])
def test_a_time_to_live_is_a_day_at_most(ttl_ms: Any) -> None:
    assert page(ttlMs=ttl_ms).ttl_s == 86_400


@pytest.mark.parametrize("result", [None, "text", {}, {"tools": None}, {"tools": "crm_get"}])
def test_an_answer_without_rows_is_an_upstream_failure(result: Any) -> None:
    with pytest.raises(UpstreamFailed):
        page_of("tools/list", {"result": result})


@pytest.mark.parametrize("meta", [None, "text", {INFO: "text"}, {INFO: {"version": None}}])
def test_a_service_need_not_say_its_version(meta: Any) -> None:
    assert [row.key for row in page(_meta=meta).rows] == ["crm_get"]


def test_an_answer_nested_beyond_measure_is_an_upstream_failure() -> None:
    body = b'{"result":' + b"[" * 200_000 + b"]" * 200_000 + b"}"
    with pytest.raises(UpstreamFailed):
        message_of("application/json", body)


def test_a_streamed_answer_is_found_among_other_messages() -> None:
    answer = {"jsonrpc": "2.0", "id": 1, "result": {}}
    body = f'data: {{"method": "x"}}\n\ndata: {json.dumps(answer)}\n\n'.encode()
    assert message_of("text/event-stream", body) == answer
