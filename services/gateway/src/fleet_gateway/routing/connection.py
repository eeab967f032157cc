"""One HTTP/1.1 connection to a service: a request goes out, and its answer is read by llhttp as it comes.

Forwarding is all that the gateway does, and a general client costs it as much CPU as everything else together:
cookies, redirects, decompression, proxies and names are not needed here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable
from typing import cast

import httptools

from fleet_common.mcp.body import ClientGone
from fleet_gateway.balancing.models import Address

_SILENCE_S = 120.0  # streams are pinged every 15 s; a peer that says nothing for this long is gone
_MAX_HEAD = 64 * 1024
_HIGH_WATER = 256 * 1024  # bytes of an answer that wait for the client
_BODILESS = (204, 304)

Headers = list[tuple[bytes, bytes]]


def media_type(content_type: bytes) -> bytes:
    """Return the media type that a header names, in lower case and without parameters."""
    return content_type.partition(b";")[0].strip().lower()


class Broken(Exception):
    """The connection ended before the answer did, or what came is no HTTP."""


class Connection(asyncio.Protocol):
    """A connection and the answer that is coming in on it.

    Attributes:
        status: of the answer.
        headers: of the answer, with names in lower case.
        is_whole: all of the answer has come, though some of it may not have been read.
        heard: when something was last sent or received, on the loop's clock.
    """

    status = 0
    is_whole = True

    def __init__(self, address: Address, loop: asyncio.AbstractEventLoop) -> None:
        self.address = address
        self.headers: Headers = []
        self.born = self.heard = loop.time()
        self._loop = loop
        self._parser = httptools.HttpResponseParser(self)
        self._pieces: list[bytes] = []
        self._waiting = 0  # bytes in `_pieces`
        self._unread = 0  # bytes since the last head, or piece of a body, was whole
        self._waiter: asyncio.Future[None] | None = None
        self._can_write = asyncio.Event()
        self._can_write.set()
        self._upload: asyncio.Task[None] | None = None
        self._is_open = self._has_head = self._is_framed = self._stays = False
        self._is_bodiless = self._is_paused = False

    async def ask(self, method: str, head: bytes, body: bytes | AsyncIterable[bytes]) -> None:
        """Send a request and return when the head of its answer is there.

        Raises:
            Broken: it did not come.
        """
        self.headers, self._pieces, self._waiting = [], [], 0
        self.is_whole = self._has_head = self._is_framed = self._stays = False
        self._is_bodiless = method == "HEAD"
        self.heard = self._loop.time()
        if isinstance(body, bytes):
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._upload = asyncio.create_task(self._send(body), name="upload")
        while not self._has_head:
            await self._news()

    async def chunk(self) -> bytes:
        """Return what has come of the body since the last call, waiting for it; nothing at its end.

        Raises:
            Broken: the rest will not come.
        """
        while not self._pieces:
            if self.is_whole:
                return b""
            await self._news()
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._waiting = 0
        if self._is_paused:
            self._is_paused = False
            self.heard = self._loop.time()
            self._transport.resume_reading()
        return data

    async def read(self) -> bytes:
        """Return the whole body."""
        chunks: list[bytes] = []
        while not self.is_read:
            chunks.append(await self.chunk())
        return b"".join(chunks)

    @property
    def is_read(self) -> bool:
        """Whether the answer has come whole and been read to its end."""
        return self.is_whole and not self._pieces

    def header(self, name: bytes) -> bytes:
        """Return a header of the answer, empty when there is none."""
        for key, value in self.headers:
            if key == name:
                return value
        return b""

    @property
    def is_reusable(self) -> bool:
        """Whether both sides are done with this exchange and neither has said that it was the last."""
        return self._is_open and self.is_whole and self._stays and self._upload is None

    @property
    def is_silent(self) -> bool:
        """Whether the other side has said nothing for too long."""
        return not self._is_paused and self._loop.time() - self.heard > _SILENCE_S

    def close(self) -> None:
        """Close it, whatever is still under way; an answer that is not whole breaks off."""
        self._is_open, self._is_framed = False, True
        if self._upload is not None:
            self._upload.cancel()
            self._upload = None
        self._transport.abort()

    async def _send(self, body: AsyncIterable[bytes]) -> None:
        try:
            async for piece in body:
                await self._can_write.wait()
                if piece:
                    self.heard = self._loop.time()
                    self._transport.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            self._transport.write(b"0\r\n\r\n")
        except ClientGone:
            self._is_open, self._is_framed = False, True
            self._transport.abort()
        else:
            self._upload = None

    async def _news(self) -> None:
        if not self._is_open:
            raise Broken
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own, which is no subclass
        self._is_open = True

    def data_received(self, data: bytes) -> None:
        """Read what came; anything that nobody asked for ends the connection."""
        if self.is_whole:
            self.close()
            return
        self.heard = self._loop.time()
        self._unread += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.close()
        if self._unread > _MAX_HEAD:
            self.close()
        elif self._waiting > _HIGH_WATER and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """End; an answer without a length ends with its connection."""
        self._is_open = False
        if self._has_head and not self._is_framed and exc is None:
            self.is_whole = True
        self._can_write.set()
        self._wake()

    def pause_writing(self) -> None:
        """Hold the upload."""
        self._can_write.clear()

    def resume_writing(self) -> None:
        """Let the upload go on."""
        self._can_write.set()

    # httptools

    def on_message_begin(self) -> None:
        """Begin an answer; a second one was not asked for."""
        if self.is_whole:
            raise Broken

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header; what comes after the body is none."""
        if self._has_head:
            return
        name, value = name.lower(), value.strip(b" \t")
        if name == b"content-length" or (
            name == b"transfer-encoding" and value.lower() == b"chunked"
        ):
            self._is_framed = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Take the head, unless it only announces another one (RFC 9110 §15.2)."""
        self._unread = 0
        status = self._parser.get_status_code()
        if status == 101:
            raise Broken
        if status < 200:
            self.headers, self._is_framed = [], False
            return
        self.status = status
        self._has_head = True
        self._stays = self._parser.should_keep_alive()
        if self._is_bodiless or status in _BODILESS:
            # llhttp does not know what was asked and may wait for the body that a length speaks of.
            self.is_whole, self._stays = True, False

    def on_body(self, data: bytes) -> None:
        """Keep a piece of the body."""
        self._unread = 0
        self._pieces.append(data)
        self._waiting += len(data)

    def on_message_complete(self) -> None:
        """End the answer."""
        self._unread = 0
        self.is_whole = self._has_head
