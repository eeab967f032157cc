"""A client may be slow, but it may not stand still for ever in what it holds."""

from __future__ import annotations

import asyncio

from starlette.types import Message, Receive, Send

from fleet_common.mcp.body import ClientGone

_STILL_S = 30.0


class Patience:
    """The two directions of one request; a client that stands still in the middle of either counts as gone.

    Attributes:
        is_lost: it did, before anything was answered.
    """

    def __init__(self, receive: Receive, send: Send, *, still_s: float = _STILL_S) -> None:
        self.is_lost = False
        self._receive = receive
        self._send = send
        self._still_s = still_s
        self._is_whole = False
        self._has_begun = False

    async def receive(self) -> Message:
        """Return the next part of the body; after the last one, wait for as long as it takes."""
        if self._is_whole:
            return await self._receive()
        try:
            async with asyncio.timeout(self._still_s):
                message = await self._receive()
        except TimeoutError:
            self.is_lost = not self._has_begun
            return {"type": "http.disconnect"}
        self._is_whole = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        """Pass a part of the answer on.

        Raises:
            ClientGone: the client takes nothing more.
        """
        self._has_begun = True
        try:
            async with asyncio.timeout(self._still_s):
                await self._send(message)
        except TimeoutError:
            raise ClientGone from None
