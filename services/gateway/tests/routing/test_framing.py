"""What one client sends never becomes part of what another one asks, however it is framed."""

from __future__ import annotations

import asyncio
from typing import Protocol
from urllib.parse import urlsplit

import httpx
import pytest

from fleet_common.testing.wire import answer, modern


class Fleet(Protocol):
    """What the fixture `fleet` gives (see conftest.py)."""

    url: str
    key: str

    def client(self, **headers: str) -> httpx.AsyncClient: ...


async def send_raw(fleet: Fleet, head: str, body: bytes = b"", *, hang_up: bool = False) -> bytes:
    """Send bytes as they are; return the answer, nothing when we hang up before it."""
    parts = urlsplit(fleet.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    lines = f"{head}\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {fleet.key}\r\n\r\n"
    writer.write(lines.encode() + body)
    await writer.drain()
    if not hang_up:
        found = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    writer.close()
    return b"" if hang_up else found


async def calls_of_others(fleet: Fleet) -> list[str]:
    request = modern("tools/call", "crm_echo", arguments={"text": "mine"})
    async with fleet.client() as http:
        responses = await asyncio.gather(
            *(http.post("/data/mcp", **request) for _ in range(8)),
            *(http.post("/mcp", **request) for _ in range(8)),
        )
    return [str(answer(response)["result"].get("structuredContent")) for response in responses]


@pytest.mark.parametrize(
    "head",
    [
        "GET /data/mcp HTTP/1.1\r\nContent-Length: 50",
        "GET /unsubscribe/x HTTP/1.1\r\nContent-Length: 50",
        "HEAD /unsubscribe/x HTTP/1.1\r\nContent-Length: 50",
    ],
)
async def test_a_length_without_its_body_reaches_no_other_call(fleet: Fleet, head: str) -> None:
    await asyncio.gather(*(send_raw(fleet, head, b"x" * 50) for _ in range(12)))

    assert len(set(await calls_of_others(fleet))) == 1


@pytest.mark.parametrize("path", ["/data/mcp", "/mcp", "/webhooks/github", "/api/tools/crm_echo"])
async def test_a_body_that_breaks_off_is_no_request_and_hurts_nobody(
    fleet: Fleet, path: str
) -> None:
    head = f"POST {path} HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 50"
    await asyncio.gather(*(send_raw(fleet, head, b'{"a":', hang_up=True) for _ in range(12)))

    assert set(await calls_of_others(fleet)) == {
        "{'text': 'mine', 'tenant': 'demo', 'credential': 'internal'}"
    }


async def test_a_name_that_no_header_can_hold_is_refused(fleet: Fleet) -> None:
    body = (
        '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"fleet_call_tool",'
        '"arguments":{"name":"\\ud800"}}}'
    )
    headers = {
        "accept": "application/json, text/event-stream",
        "content-type": "application/json",
        "mcp-protocol-version": "2025-11-25",
    }
    async with fleet.client(**headers) as http:
        response = await http.post("/mcp?mode=search", content=body)

    assert response.status_code == 400
