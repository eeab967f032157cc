"""Below what no hop gets here: the gateway's own server with an empty app behind it, and one that only forwards.

The second has the gateway's server and its client and nothing between them: no caller, no policy, no limits, no choice.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from fleet_common.mcp.body import read_body
from fleet_common.mcp.protocol import Http1
from fleet_gateway.balancing.models import Address
from fleet_gateway.routing.connections import Connections

ANSWER = b'{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"hello"}]}}'
HEAD = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(ANSWER))]
_OWN = {b"host", b"content-length", b"transfer-encoding", b"connection"}


async def empty(_scope: Scope, receive: Receive, send: Send) -> None:
    """Read the request and answer the same to everybody."""
    await read_body(receive)
    await send({"type": "http.response.start", "status": 200, "headers": HEAD})
    await send({"type": "http.response.body", "body": ANSWER})


class Bare:
    """Forwards every request to one address, with the headers that it came with."""

    def __init__(self, upstream: str) -> None:
        self._address = Address(upstream, upstream.removeprefix("http://"))
        self.connections = Connections(connect_timeout_s=2.0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward one request."""
        body = await read_body(receive)
        headers = [pair for pair in scope["headers"] if pair[0] not in _OWN]
        headers.append((b"host", self._address.authority.encode()))
        request = self.connections.request(self._address, "POST", "/mcp", headers, body)
        async with request as answer:
            head = {"type": "http.response.start", "status": answer.status}
            content = await answer.read()
            await send({**head, "headers": answer.headers})
            await send({"type": "http.response.body", "body": content})


def serve(port: int, upstream: str | None) -> None:
    app: ASGIApp = empty
    opened = None
    if upstream is not None:
        app = bare = Bare(upstream)
        opened = bare.connections.opened

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncGenerator[None]:
        if opened is None:
            yield
            return
        async with opened():
            yield

    outer = Starlette(lifespan=lifespan)

    async def either(scope: Scope, receive: Receive, send: Send) -> None:
        await (app if scope["type"] == "http" else outer)(scope, receive, send)

    uvicorn.run(
        either, port=port, http=Http1, log_level="error", access_log=False, server_header=False
    )


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)
