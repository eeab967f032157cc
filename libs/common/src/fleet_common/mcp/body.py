"""A request's body, read whole before anything handles it."""

from __future__ import annotations

from typing import Any

from pydantic_core import from_json
from starlette.types import Message, Receive

from fleet_common.errors import PayloadTooLarge

MAX_BODY = 4 * 1024 * 1024  # what the transport accepts
_NOT_YET = object()


class ClientGone(Exception):
    """Raised when the client hangs up before its body is whole: there is nobody to answer."""


async def read_body(receive: Receive) -> bytes:
    """Return the whole body.

    Raises:
        PayloadTooLarge: it is over 4 MiB.
        ClientGone: it broke off. What came must not be taken for the whole.
    """
    chunks: list[bytes] = []
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk: bytes = message.get("body", b"")
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_BODY:
            raise PayloadTooLarge("the request body is over 4 MiB")
        more = message.get("more_body", False)
    return b"".join(chunks)


# Any: JSON.
def parsed_body(body: bytes) -> Any:
    """Return the parsed body, or None when it is no JSON: the server behind answers that as the spec says."""
    try:
        # As the services read it: a lone surrogate, which no header can hold, is no JSON.
        return from_json(body)
    except ValueError:
        return None


class Kept:
    """A `receive` that gives what was read of a body again, and then what the client does next.

    Attributes:
        body: what was read.
        is_whole: nothing of the body is missing, so that nobody has to read it again.
    """

    __slots__ = ("_is_given", "_parsed", "_then", "body", "is_whole")

    def __init__(self, body: bytes, then: Receive, *, is_whole: bool = True) -> None:
        self.body = body
        self.is_whole = is_whole
        self._then = then
        self._is_given = False
        self._parsed: Any = _NOT_YET

    async def __call__(self) -> Message:
        """Return the body, once, and then the next message."""
        if self._is_given:
            return await self._then()
        self._is_given = True
        return {"type": "http.request", "body": self.body, "more_body": not self.is_whole}

    # Any: JSON.
    def parsed(self) -> Any:
        """Return `parsed_body`, which is worked out once."""
        if self._parsed is _NOT_YET:
            self._parsed = parsed_body(self.body)
        return self._parsed


async def keep_body(receive: Receive) -> Kept:
    """Return the whole body as something that gives it again.

    Raises:
        PayloadTooLarge: it is over 4 MiB.
        ClientGone: it broke off.
    """
    if isinstance(receive, Kept) and receive.is_whole and len(receive.body) <= MAX_BODY:
        return receive
    return Kept(await read_body(receive), receive)


async def peek_body(receive: Receive, *, size_bytes: int) -> Kept:
    """Return the body as far as it came within `size_bytes`, as something that gives it again."""
    chunks: list[bytes] = []
    size, more = 0, True
    while more and size < size_bytes:
        message = await receive()
        if message["type"] == "http.disconnect":
            return Kept(b"".join(chunks), _saying(message), is_whole=False)
        chunk: bytes = message.get("body", b"")
        chunks.append(chunk)
        size += len(chunk)
        more = message.get("more_body", False)
    return Kept(b"".join(chunks), receive, is_whole=not more)


def _saying(message: Message) -> Receive:
    async def say() -> Message:
        return message

    return say
