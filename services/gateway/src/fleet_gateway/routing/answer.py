"""A service's answer on its way to the client: nothing of it is sent before its first byte is there.

Until then a call whose service broke can still be sent to another endpoint.
"""

from __future__ import annotations

import json

from starlette.types import Message, Scope, Send

from fleet_common.errors import FleetError
from fleet_common.mcp.gate import error_response
from fleet_gateway.routing.connection import Connection, Headers, media_type
from fleet_gateway.routing.hops import HOP_BY_HOP, staying

# These are set anew or concern the gateway and the service.
_NOT_RETURNED = HOP_BY_HOP | frozenset(
    {
        *(b"www-authenticate", b"set-cookie", b"server", b"date", b"x-request-id", b"x-trace-id"),
    }
)


class Answer:
    """Passes an answer on.

    Attributes:
        has_begun: something of it has been sent, so that no other answer can be.
        is_complete: all of it has been sent.
    """

    def __init__(self, send: Send) -> None:
        self.has_begun = False
        self.is_complete = False
        self._send = send
        self._headers: Headers = []

    async def pass_on(self, response: Connection) -> None:
        """Send status and headers with the first bytes of the body, and then the rest as it comes."""
        self._headers = response.headers
        left = staying(_NOT_RETURNED, self._headers)
        head: Message = {
            "type": "http.response.start",
            "status": response.status,
            "headers": [pair for pair in self._headers if pair[0] not in left],
        }
        chunk = await response.chunk()
        self.has_begun = True
        await self._send(head)
        while not response.is_read:  # most answers are one chunk
            await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
            chunk = await response.chunk()
        await self._end(chunk)

    async def fail(self, error: FleetError, scope: Scope, request: bytes) -> None:
        """Answer with `error`; a stream that broke in the middle ends with it, or its client would wait for ever.

        Any other answer that has begun stays short of its length, which every HTTP client notices.
        """
        if not self.has_begun:
            await error_response(error)(scope, _no_request, self._send)
        elif media_type(dict(self._headers).get(b"content-type", b"")) == b"text/event-stream":
            message = {
                "jsonrpc": "2.0",
                "id": _id_of(request),
                "error": {
                    "code": error.jsonrpc_code,
                    "message": str(error),
                    "data": error.to_dict(),
                },
            }
            # The blank line ends an event that was cut in the middle.
            await self._end(f"\n\nevent: message\ndata: {json.dumps(message)}\n\n".encode())

    async def _end(self, body: bytes) -> None:
        self.is_complete = True
        await self._send({"type": "http.response.body", "body": body, "more_body": False})


async def _no_request() -> Message:
    raise AssertionError("an error response reads no request")


def _id_of(request: bytes) -> object:
    try:
        message = json.loads(request)
    except (ValueError, RecursionError):
        return None
    return message.get("id") if isinstance(message, dict) else None
