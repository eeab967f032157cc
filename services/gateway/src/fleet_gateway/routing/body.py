"""A request's body: up to 1 MiB is kept, so that it can be sent again; what is larger streams through."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from starlette.types import Receive

from fleet_common.mcp.body import ClientGone, Kept

KEPT_BYTES = 1024 * 1024


class Body:
    """The body and, once it is whole, the watch for the client's leaving.

    Attributes:
        kept: the body, or the beginning of a large one.
        is_spent: a large body has begun to stream and cannot be sent again.
    """

    def __init__(self, receive: Receive) -> None:
        self.kept = b""
        self.is_spent = False
        self.is_abandoned = False
        self._receive = receive
        self._is_whole = False

    async def begin(self) -> None:
        """Read as much as is kept.

        Raises:
            ClientGone: the client hung up meanwhile.
        """
        if isinstance(self._receive, Kept) and self._receive.is_whole:
            self.kept, self._is_whole = self._receive.body, True
            return
        self._ended = asyncio.Event()
        chunks, size = [], 0
        while not self._is_whole and size <= KEPT_BYTES:
            chunks.append(await self._next())
            size += len(chunks[-1])
        self.kept = b"".join(chunks)

    def content(self) -> bytes | AsyncGenerator[bytes]:
        """Return what to send."""
        return self.kept if self._is_whole else self._stream()

    async def client_left(self) -> None:
        """Return when the client has hung up after it sent the whole body."""
        if not self._is_whole:
            await self._ended.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _stream(self) -> AsyncGenerator[bytes]:
        self.is_spent = True
        yield self.kept
        while not self._is_whole:
            yield await self._next()
        self._ended.set()

    async def _next(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.is_abandoned = True
            raise ClientGone
        self._is_whole = not message.get("more_body", False)
        return bytes(message.get("body", b""))
