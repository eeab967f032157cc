"""What our reading of HTTP/1.1 makes of bytes, beside what h11 makes of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import urlsplit

import pytest
from starlette.types import Receive, Scope, Send
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from fleet_common.mcp import protocol
from fleet_common.testing import serving

POST = b"POST /mcp HTTP/1.1\r\nHost: a\r\n"
NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
H2C = POST + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n"
SIZED = b"Content-Length: 2\r\n\r\nhi"

ALIKE = {
    "white space round a value": POST + b"X-A: \t b \t \r\n" + SIZED + NEXT,
    "white space after a length": POST + b"Content-Length: 2 \t\r\n\r\nhi" + NEXT,
    "obs-text": POST + b"X-A: \xe9\r\n" + SIZED + NEXT,
    "chunks": CHUNKED + b"2;a=b\r\nhi\r\n1\r\n!\r\n0\r\n\r\n" + NEXT,
    "a trailer is no header": CHUNKED + b"2\r\nhi\r\n0\r\nX-Api-Key: evil\r\n\r\n" + NEXT,
    "an offer of h2c with a body": H2C + SIZED + NEXT,
    "an offer of h2c with chunks": H2C + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n" + NEXT,
    "an offer of h2c in pieces": H2C + b"Content-Length: 70000\r\n\r\n" + b"x" * 70000 + NEXT,
    "an unknown offer": b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n" + NEXT,
    "two requests at once": POST + SIZED + POST + SIZED + NEXT,
    "a length on GET": b"GET /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi" + NEXT,
    "escapes": b"GET /m%63p/%2f?x=%2f?y HTTP/1.1\r\nHost: a\r\n\r\n" + NEXT,
    "two slashes": b"GET //evil/mcp HTTP/1.1\r\nHost: a\r\n\r\n" + NEXT,
    "HTTP/1.0": b"GET /a HTTP/1.0\r\n\r\n",
    "HTTP/1.0 that wants to stay": b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "nothing after close": NEXT + NEXT,
    "100-continue": POST + b"Expect: 100-continue\r\n" + SIZED + NEXT,
    "a head of 60 kB": POST + b"X-A: " + b"a" * 60_000 + b"\r\n" + SIZED + NEXT,
    "a body of 1 MB": POST + b"Content-Length: 1000000\r\n\r\n" + b"x" * 1_000_000 + NEXT,
}  # fmt: skip
REFUSED = {
    "two lengths": POST + b"Content-Length: 2\r\n" + SIZED,
    "a list of lengths": POST + b"Content-Length: 2, 2\r\n\r\nhi",
    "a signed length": POST + b"Content-Length: +2\r\n\r\nhi",
    "a length in hex": POST + b"Content-Length: 0x2\r\n\r\nhi",
    "no length": POST + b"Content-Length:\r\n\r\nhi",
    "a length and chunks": POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and a length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    "gzip in chunks": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "xchunked": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and identity": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "chunked behind \\v": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "a space before the colon": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "chunks in HTTP/1.0": b"POST /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "LF alone": b"POST /mcp HTTP/1.1\nHost: a\nContent-Length: 2\n\nhi",
    "CR alone": POST + b"X-A: b\rContent-Length: 9\r\n" + SIZED,
    "a folded header": POST + b"X-A: b\r\n Content-Length: 9\r\n" + SIZED,
    "NUL": POST + b"X-A: b\x00c\r\n" + SIZED,
    "a control character": POST + b"X-A: b\x01c\r\n" + SIZED,
    "DEL": POST + b"X-A: b\x7fc\r\n" + SIZED,
    "a name with a space": POST + b"X A: b\r\n" + SIZED,
    "no name": POST + b": b\r\n" + SIZED,
    "no colon": POST + b"X-A\r\n" + SIZED,
    "a chunk that ends with LF": CHUNKED + b"2\nhi\n0\n\n",
    "an extension that ends with LF": CHUNKED + b"2;a\nhi\r\n0\r\n\r\n",
    "a negative chunk": CHUNKED + b"-2\r\nhi\r\n0\r\n\r\n",
    "a chunk that is too short": CHUNKED + b"1\r\nhi\r\n0\r\n\r\n",
    "an endless chunk": CHUNKED + b"f" * 17 + b"\r\nhi",
    "no host": b"GET /mcp HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /mcp HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "two hosts in HTTP/1.0": b"GET /mcp HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
    "HTTP/0.9": b"GET /mcp\r\n\r\n",
    "HTTP/2": b"GET /mcp HTTP/2.0\r\nHost: a\r\n\r\n",
    "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "another host in the target": b"GET http://evil/mcp HTTP/1.1\r\nHost: a\r\n\r\n",
    "no path": b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    "a fragment": b"GET /mcp#x HTTP/1.1\r\nHost: a\r\n\r\n",
    "a path that is not ASCII": b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n",
    "a path with a space": b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00",
    "an endless head": POST + b"X-A: " + b"a" * (protocol.MAX_HEAD + 200_000),
    "an endless trailer": CHUNKED + b"2\r\nhi\r\n0\r\nX-A: " + b"a" * (protocol.MAX_HEAD + 200_000),
}  # fmt: skip


async def lifespan(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with everything the request said."""
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message["body"]
        more = message["more_body"]
    headers = [[text.decode("latin-1") for text in pair] for pair in scope["headers"]]
    heard = [scope["method"], scope["path"], scope["raw_path"].decode(), scope["http_version"]]
    said = [*heard, scope["query_string"].decode(), headers, len(body), body[:9].decode()]
    answer = json.dumps(said).encode()
    length = [(b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 200, "headers": length})
    await send({"type": "http.response.body", "body": answer})


async def heard(url: str, data: bytes) -> bytes:
    """Send bytes and return everything that comes back until the server closes."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    received = b""
    try:
        writer.write(data)
        while chunk := await reader.read(65536):
            received += chunk
    except ConnectionError:
        pass  # it closed while we were sending
    finally:
        writer.close()
    return received


def answers(received: bytes) -> list[list[object]]:
    return [
        json.loads(line)
        for line in received.replace(b"]HTTP/", b"]\nHTTP/").split(b"\n")
        if line.startswith(b"[")
    ]


class Wire(asyncio.Transport):
    """A connection to nobody."""

    is_closed = False

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True

    def resume_reading(self) -> None:
        """Take what comes."""


class Time:
    """The part of an event loop that knows what is due."""

    now = 0.0

    def __init__(self) -> None:
        self.due: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, call: Callable[[], None]) -> asyncio.TimerHandle:
        self.due.append((self.now + delay, call))
        # Only its `cancel` would be called, and only when the connection is lost.
        return cast(asyncio.TimerHandle, object())

    def pass_until(self, then: float) -> None:
        while self.due and self.due[0][0] <= then:
            self.now, call = self.due.pop(0)
            call()
        self.now = then


def test_a_connection_ends_when_nothing_was_asked_for_five_seconds_after_an_answer() -> None:
    time, wire = Time(), Wire()
    # Any: as in Time.
    http = protocol.Http1(Config(echo, lifespan="off"), ServerState(), {}, cast(Any, time))
    http.connection_made(wire)
    http.on_response_complete()
    time.pass_until(3)
    http.data_received(b"P")
    time.pass_until(30)
    assert not wire.is_closed  # an answer is owed
    http.on_response_complete()
    time.pass_until(34)
    http.data_received(b"O")
    http.on_response_complete()
    time.pass_until(38.9)
    assert not wire.is_closed
    time.pass_until(39)
    assert wire.is_closed


async def test_what_is_well_formed_means_what_it_means_to_h11() -> None:
    async with serving(echo) as ours, serving(echo, http=H11Protocol) as theirs:
        for what, data in ALIKE.items():
            found = answers(await heard(ours, data))
            assert found == answers(await heard(theirs, data)), what
            assert found, what


async def test_what_is_malformed_is_answered_with_400_and_reaches_no_app() -> None:
    async with serving(echo) as url:
        for what, data in REFUSED.items():
            received = await heard(url, data)
            assert received.startswith(b"HTTP/1.1 400 "), what
            assert not answers(received), what


@pytest.mark.parametrize("later", [b"GET /2 HTTP/9\r\n\r\n", b"?\r\n\r\n", H2C + SIZED], ids=str)
async def test_what_is_malformed_later_takes_no_answer_from_what_came_before(later: bytes) -> None:
    async with serving(echo) as url:
        received = await heard(url, POST + SIZED + later)

    assert len(answers(received)) == 1
    assert received.count(b"HTTP/1.1 ") == 1
    assert b"connection: close" in received


async def test_an_answer_comes_in_one_piece() -> None:
    async with serving(echo) as url:
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        for _ in range(20):
            writer.write(POST + SIZED)
            received = await reader.read(65536)
            assert received.startswith(b"HTTP/1.1 200 ")
            assert answers(received)
        writer.close()


async def test_a_head_does_not_wait_for_a_body_that_comes_later() -> None:
    has_come = asyncio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await has_come.wait()
        await send({"type": "http.response.body", "body": b"late"})

    async with serving(slow) as url:
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(NEXT)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        has_come.set()
        assert b"late" in await reader.read()
        writer.close()


async def test_a_broken_body_ends_an_answer_that_has_begun() -> None:
    async def eager(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan(receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while (await receive())["type"] != "http.disconnect":
            await send({"type": "http.response.body", "body": b"part", "more_body": True})

    async with serving(eager) as url:
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(CHUNKED + b"2\r\nhi\r\n")
        await reader.readuntil(b"part")
        writer.write(b"no chunk\r\n")
        rest = await reader.read()
        writer.close()

    assert b"400" not in rest
    assert not rest.endswith(b"0\r\n\r\n")
