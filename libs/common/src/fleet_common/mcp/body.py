"""A request's body, read whole before anything handles it."""

from __future__ import annotations

from typing import cast

from starlette.types import Message, Receive

from fleet_common.errors import PayloadTooLarge

MAX_BODY = 4 * 1024 * 1024  # what the transport accepts


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
        chunks.append(cast(bytes, message.get("body", b"")))
        size += len(chunks[-1])
        if size > MAX_BODY:
            raise PayloadTooLarge("the request body is over 4 MiB")
        more = message.get("more_body", False)
    return b"".join(chunks)


def replay(body: bytes, receive: Receive) -> Receive:
    """Return a `receive` that gives `body` once and then what the client does next."""
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return pending.pop() if pending else await receive()

    return next_message
