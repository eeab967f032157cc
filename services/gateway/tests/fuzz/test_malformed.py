"""A fixed corpus: what somebody has sent to some server once, and what has broken one."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx
import pytest

from fleet_common.testing.wire import MODERN, answer, modern


class Fleet(Protocol):
    """What the fixture `fleet` gives (see conftest.py)."""

    url: str
    key: str

    def client(self, **headers: str) -> httpx.AsyncClient: ...


def call(**changed: Any) -> bytes:
    """Return a sound call with some members changed; None leaves one out."""
    usual = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": PARAMS} | changed
    return json.dumps({name: value for name, value in usual.items() if value is not ...}).encode()


PARAMS: dict[str, Any] = {
    "name": "crm_write",
    "arguments": {"text": "x"},
    "_meta": {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
    },
}
SOUND = call()
DEEP = b"[" * 100_000
BODIES: dict[str, bytes] = {
    "nothing": b"",
    "white space": b" \r\n\t",
    "truncated": SOUND[:-10],
    "truncated in a string": SOUND[:30],
    "two messages": SOUND + SOUND,
    "a comma too many": SOUND[:-1] + b",}",
    "single quotes": SOUND.replace(b'"', b"'"),
    "a comment": b"/* hello */" + SOUND,
    "NaN": call(id=float("nan")),
    "Infinity": call(params={**PARAMS, "arguments": {"text": float("-inf")}}),
    "a number that is none": SOUND.replace(b'"id": 1', b'"id": 01'),
    "hexadecimal": SOUND.replace(b'"id": 1', b'"id": 0x1'),
    "method twice": SOUND[:-1] + b',"method":"tools/list"}',
    "params twice": SOUND[:-1] + b',"params":{"name":"crm_write","arguments":{}}}',
    "name twice": SOUND.replace(b'"name":', b'"name":"crm_echo","name":'),
    "id twice": SOUND[:-1] + b',"id":2}',
    "jsonrpc 1.0": call(jsonrpc="1.0"),
    "jsonrpc a number": call(jsonrpc=2.0),
    "no jsonrpc": call(jsonrpc=...),
    "no id": call(id=...),
    "no method": call(method=...),
    "no params": call(params=...),
    "id null": call(id=None),
    "id true": call(id=True),
    "id a fraction": call(id=1.5),
    "id a list": call(id=[1]),
    "id an object": call(id={"a": 1}),
    "id empty": call(id=""),
    "id long": call(id="x" * 100_000),
    "id huge": SOUND.replace(b'"id": 1', b'"id":' + b"9" * 5000),
    "id negative": call(id=-(2**63)),
    "method a number": call(method=7),
    "method null": call(method=None),
    "method empty": call(method=""),
    "method with a NUL": call(method="tools/call\x00"),
    "method in capitals": call(method="TOOLS/CALL"),
    "method long": call(method="x" * 100_000),
    "params a list": call(params=[1]),
    "params a text": call(params="x"),
    "params null": call(params=None),
    "name a number": call(params={**PARAMS, "name": 7}),
    "name an object": call(params={**PARAMS, "name": {"name": "crm_write"}}),
    "name empty": call(params={**PARAMS, "name": ""}),
    "name with a path": call(params={**PARAMS, "name": "../crm_write"}),
    "name long": call(params={**PARAMS, "name": "x" * 100_000}),
    "arguments a list": call(params={**PARAMS, "arguments": ["x"]}),
    "arguments a text": call(params={**PARAMS, "arguments": '{"text": "x"}'}),
    "arguments deep": SOUND.replace(b'"x"', b"[" * 5000 + b"]" * 5000),
    "meta a list": call(params={**PARAMS, "_meta": []}),
    "meta with a wrong version": call(
        params={**PARAMS, "_meta": {"io.modelcontextprotocol/protocolVersion": 7}}
    ),
    "a negative timeout": call(
        params={**PARAMS, "_meta": {**PARAMS["_meta"], "fleet/timeoutMs": -1}}
    ),
    "a cursor of a number": call(method="tools/list", params={**PARAMS, "cursor": 7}),
    "a reference that is a list": call(method="completion/complete", params={"ref": []}),
    "a URI that is none": call(method="resources/read", params={**PARAMS, "uri": "::::"}),
    "a task of nobody": call(method="tasks/get", params={**PARAMS, "taskId": "nobody.x"}),
    "an answer": b'{"jsonrpc":"2.0","id":1,"result":{}}',
    "an error": b'{"jsonrpc":"2.0","id":1,"error":{"code":-1,"message":"x"}}',
    "a batch": b"[" + SOUND + b"]",
    "an empty batch": b"[]",
    "a large batch": b"[" + b",".join([b'{"jsonrpc":"2.0","id":1,"method":"ping"}'] * 5000) + b"]",
    "null": b"null",
    "true": b"true",
    "a number": b"1",
    "a text": b'"tools/call"',
    "deep lists": DEEP,
    "deep lists, closed": DEEP + b"]" * 100_000,
    "deep objects": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    "a BOM": b"\xef\xbb\xbf" + SOUND,
    "UTF-16": SOUND.decode().encode("utf-16"),
    "UTF-32": SOUND.decode().encode("utf-32"),
    "Latin-1": SOUND.replace(b'"x"', b'"\xe4"'),
    "overlong UTF-8": SOUND.replace(b'"x"', b'"\xc0\xaf"'),
    "a lone surrogate": SOUND.replace(b'"x"', b'"\\ud800"'),
    "a lone surrogate in the name": SOUND.replace(b"crm_write", b"crm_write\\udfff"),
    "half an escape": SOUND.replace(b'"x"', b'"\\u00"'),
    "a NUL": SOUND.replace(b'"x"', b'"\x00"'),
    "gzip": b"\x1f\x8b\x08\x00" + b"\x00" * 20,
    "a form": b"method=tools/call&name=crm_write",
    "XML": b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
    "too large": b'{"x":"' + b"x" * 5_000_000 + b'"}',
}
"""None of them may run a tool: `crm_write` is not for this caller."""

DOORS = ["/mcp", "/data/mcp", "/key/mcp", "/api/tools/crm_write"]
TYPES = ["text/plain", "application/json; charset=utf-16", "multipart/form-data", "", "a" * 3000]


@pytest.mark.timeout(60)
async def test_no_malformed_message_is_a_server_error_or_runs_anything(fleet: Fleet) -> None:
    assert len(BODIES) >= 40
    usual = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
    modern_ones = {
        "mcp-protocol-version": MODERN,
        "mcp-method": "tools/call",
        "mcp-name": "crm_write",
    }
    eras = [
        modern_ones,
        {"mcp-protocol-version": "2025-11-25"},
        {},
        {"mcp-protocol-version": "zzzz"},
    ]
    async with fleet.client(**usual) as http:
        for number, (what, body) in enumerate(BODIES.items()):
            for door in DOORS[:2]:
                response = await http.post(door, content=body, headers=eras[number % len(eras)])
                said = (what, door, response.status_code, response.text[:200])
                assert response.status_code < 500, said
                assert "Traceback" not in response.text, said
                assert '"isError":false' not in response.text, said


async def test_no_other_type_of_content_is_a_server_error(fleet: Fleet) -> None:
    async with fleet.client(accept="application/json, text/event-stream") as http:
        for door in DOORS:
            for kind in TYPES:
                response = await http.post(door, content=SOUND, headers={"content-type": kind})
                assert response.status_code < 500, (door, kind)


JSON_HEAD = "Content-Type: application/json\r\nAccept: application/json, text/event-stream"
CHUNKED = f"POST /mcp HTTP/1.1\r\n{JSON_HEAD}\r\nTransfer-Encoding: chunked"
LIES: dict[str, tuple[str, bytes]] = {
    "a chunk shorter than it says": (CHUNKED, b"ff\r\n{}\r\n0\r\n\r\n"),
    "a chunk longer than it says": (CHUNKED, b"1\r\n{}{}{}\r\n0\r\n\r\n"),
    "a size that is no number": (CHUNKED, b"zz\r\n{}\r\n0\r\n\r\n"),
    "a negative size": (CHUNKED, b"-1\r\n{}\r\n0\r\n\r\n"),
    "a size beyond all": (CHUNKED, b"f" * 40 + b"\r\n{}\r\n0\r\n\r\n"),
    "length and chunks": (f"{CHUNKED}\r\nContent-Length: 2", b"2\r\n{}\r\n0\r\n\r\n"),
    "two lengths": (
        f"POST /mcp HTTP/1.1\r\n{JSON_HEAD}\r\nContent-Length: 2\r\nContent-Length: 3",
        b"{} ",
    ),
    "a length that is no number": (
        f"POST /mcp HTTP/1.1\r\n{JSON_HEAD}\r\nContent-Length: two",
        b"{}",
    ),
    "an encoding twice": (f"{CHUNKED}, chunked", b"2\r\n{}\r\n0\r\n\r\n"),
    "an encoding of its own": (
        f"POST /mcp HTTP/1.1\r\n{JSON_HEAD}\r\nTransfer-Encoding: xchunked",
        b"2\r\n{}\r\n0\r\n\r\n",
    ),
    "a header of 100 kB": (f"GET /mcp HTTP/1.1\r\nX-Long: {'x' * 100_000}", b""),
    "2000 headers": ("GET /mcp HTTP/1.1\r\n" + "\r\n".join(f"X-{n}: 1" for n in range(2000)), b""),
    "a path of 100 kB": (f"GET /{'x' * 100_000} HTTP/1.1", b""),
    "a header without a name": ("GET /mcp HTTP/1.1\r\n: x", b""),
    "a header with a space": ("GET /mcp HTTP/1.1\r\nMcp-Name : x", b""),
    "a folded header": ("GET /mcp HTTP/1.1\r\nMcp-Name: x\r\n y", b""),
    "a NUL in a header": ("GET /mcp HTTP/1.1\r\nMcp-Name: x\x00y", b""),
    "a bare CR": ("GET /mcp HTTP/1.1\r\nMcp-Name: x\ry", b""),
    "another protocol": ("GET /mcp HTTP/3.0", b""),
    "no protocol": ("GET /mcp", b""),
    "a whole URL": ("GET http://evil.example/mcp HTTP/1.1", b""),
    "a tunnel": ("CONNECT evil.example:443 HTTP/1.1", b""),
    "an upgrade": ("GET /mcp HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c", b""),
    "a preface of HTTP/2": ("PRI * HTTP/2.0", b"SM\r\n\r\n"),
    "TLS": ("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b""),
}


async def raw(fleet: Fleet, head: str, body: bytes) -> bytes:
    """Send bytes as they are and return the first line of the answer; none when the server hangs up or waits."""
    parts = urlsplit(fleet.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    lines = f"{head}\r\nHost: {parts.netloc}\r\nAuthorization: Bearer {fleet.key}\r\n\r\n"
    writer.write(lines.encode("latin-1") + body)
    writer.write_eof()
    try:
        return await asyncio.wait_for(reader.readline(), 5)
    except ConnectionError:
        return b""
    finally:
        writer.close()


async def test_no_lie_about_its_length_or_its_form_hurts_the_next_request(fleet: Fleet) -> None:
    lines = await asyncio.gather(*(raw(fleet, head, body) for head, body in LIES.values()))
    for what, line in zip(LIES, lines, strict=True):
        status = line.split()[1] if line else b"400"
        assert status < b"500" or status == b"505", (what, line)
    request = modern("tools/call", "crm_echo", arguments={"text": "mine"})
    async with fleet.client() as http:
        response = await http.post("/mcp", **request)
    assert answer(response)["result"]["structuredContent"]["text"] == "mine"
