"""What a request asks for is told as the transport behind will tell it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp.shared.inbound import encode_header_value
from starlette.types import Message, Receive, Scope

from fleet_common.errors import PayloadTooLarge
from fleet_common.mcp.body import MAX_BODY
from fleet_common.mcp.envelope import Envelope, read_envelope


def request(headers: dict[str, str], *chunks: bytes) -> tuple[Scope, Receive]:
    """Return a POST whose body comes in `chunks`, after which the client leaves."""
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    messages: list[Message] = [
        {"type": "http.request", "body": chunk, "more_body": number < len(chunks)}
        for number, chunk in enumerate(chunks, 1)
    ]

    async def receive() -> Message:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    return {"type": "http", "method": "POST", "headers": raw}, receive


def modern(**headers: str) -> dict[str, str]:
    return {"mcp-protocol-version": "2026-07-28", **headers}


@given(name=st.text(min_size=1, max_size=20))
async def test_a_modern_request_says_it_in_its_headers(name: str) -> None:
    headers = modern(**{"mcp-method": "tools/call", "mcp-name": encode_header_value(name)})
    scope, receive = request(headers, b"not even read")
    envelope, then = await read_envelope(scope, receive)
    assert envelope == Envelope("tools/call", name)
    assert (await then())["body"] == b"not even read"


@pytest.mark.parametrize("version", [None, "2024-11-05", "2025-06-18", "2025-11-25"])
@given(params=st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3))
async def test_headers_of_older_versions_are_not_believed(
    version: str | None, params: dict[str, Any]
) -> None:
    headers = {"mcp-method": "tools/list", "mcp-name": "other"}
    if version:
        headers["mcp-protocol-version"] = version
    body = json.dumps({"method": "tools/call", "params": {**params, "name": "crm_search"}}).encode()
    scope, receive = request(headers, body[:7], body[7:])
    envelope, then = await read_envelope(scope, receive)
    assert envelope == Envelope("tools/call", "crm_search")
    assert await then() == {"type": "http.request", "body": body, "more_body": False}
    assert await then() == {"type": "http.disconnect"}


@pytest.mark.parametrize(
    ("body", "envelope"),
    [
        (b'{"method":"resources/read","params":{"uri":"crm://a"}}', Envelope("resources/read", "crm://a")),
        (b'{"method":"tools/list"}', Envelope("tools/list")),
        (b'{"method":"tools/call","params":[1]}', Envelope("tools/call")),
        (b'{"method":"tools/call","params":{"name":7}}', Envelope("tools/call")),
        (b'{"method":7}', Envelope("")),
        (b'[{"method":"tools/call"}]', Envelope("")),
        (b"[" * 100_000, Envelope("")),
        (b'{"id":' + b"9" * 5000 + b"}", Envelope("")),
        (b'{"method":"\xff"}', Envelope("")),
        (b"", Envelope("")),
    ],
)  # fmt: skip
async def test_nonsense_asks_for_nothing(body: bytes, envelope: Envelope) -> None:
    found, _ = await read_envelope(*request({}, body))
    assert found == envelope


async def test_an_unknown_version_is_told_by_its_headers_as_the_transport_does() -> None:
    headers = {"mcp-protocol-version": "1999-01-01", "mcp-method": "tools/call", "mcp-name": "x"}
    found, _ = await read_envelope(*request(headers, b"{}"))
    assert found == Envelope("tools/call", "x")


async def test_a_body_over_the_limit_is_refused_before_it_is_kept() -> None:
    chunk = b"x" * (1 << 20)
    with pytest.raises(PayloadTooLarge):
        await read_envelope(*request({}, *[chunk] * (MAX_BODY // len(chunk) + 1)))
