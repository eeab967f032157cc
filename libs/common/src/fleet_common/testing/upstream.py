"""A dependency on a real socket that fails in the ways real ones do: late, never, half, not at all.

```python
async with upstream_server() as upstream, open_client(name="crm", base_url=upstream.url) as client:
    upstream.answer("/contacts", status(503), status(200, "[]"))
```
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Upstream:
    """The dependency: what it was sent, and what it answers per path."""

    def __init__(self) -> None:
        self.url = ""
        self.calls: Counter[str] = Counter()
        self.requests: list[web.Request] = []
        self.bodies: list[bytes] = []
        self.closing = asyncio.Event()
        self._arrival = asyncio.Condition()
        self._answers: dict[str, list[Handler]] = {}

    def answer(self, path: str, *handlers: Handler) -> None:
        """Answer calls of a path with these in turn, the last one ever after."""
        self._answers[path] = list(handlers)

    async def called(self, path: str) -> None:
        """Return once the path has been called."""
        async with asyncio.timeout(5), self._arrival:
            await self._arrival.wait_for(lambda: self.calls[path] > 0)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Remember the call and let the path's handler answer it."""
        async with self._arrival:
            self.calls[request.path] += 1
            self._arrival.notify_all()
        self.requests.append(request)
        self.bodies.append(await request.read())
        handlers = self._answers[request.path]
        handler = handlers.pop(0) if len(handlers) > 1 else handlers[0]
        return await handler(request)

    async def never(self, _request: web.Request) -> web.StreamResponse:
        """Take the request and answer nothing until the server closes."""
        await self.closing.wait()
        return web.Response()

    async def silent_body(self, request: web.Request) -> web.StreamResponse:
        """Begin an answer and then say nothing more."""
        response = await _begun(request)
        await self.closing.wait()
        return response

    async def dripping_body(self, request: web.Request) -> web.StreamResponse:
        """Send a byte now and then, so that no single wait is long."""
        response = await _begun(request)
        while not self.closing.is_set() and request.transport is not None:
            await response.write(b".")
            await asyncio.sleep(0.02)
        return response


def status(code: int, text: str = "", **headers: str) -> Handler:
    """Return a handler that answers with this; `Retry_After="1"` becomes the header `Retry-After`."""

    async def handler(_request: web.Request) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=code, text=text, headers=named)

    return handler


async def reset(request: web.Request) -> web.StreamResponse:
    """Drop the connection before the answer."""
    _transport(request).abort()
    return web.Response()


async def reset_mid_body(request: web.Request) -> web.StreamResponse:
    """Drop the connection when a part of the promised body is out."""
    response = await _begun(request, length=1000)
    _transport(request).abort()
    return response


async def not_http(request: web.Request) -> web.StreamResponse:
    """Answer with bytes that no HTTP parser takes."""
    transport = _transport(request)
    transport.write(b"\x00\x01 not http at all\r\n\r\n")
    transport.close()
    return web.Response()


def _transport(request: web.Request) -> asyncio.WriteTransport:
    if not isinstance(request.transport, asyncio.WriteTransport):
        raise ConnectionError("the client is gone already")
    return request.transport


async def _begun(request: web.Request, length: int | None = None) -> web.StreamResponse:
    response = web.StreamResponse()
    response.content_length = length
    await response.prepare(request)
    await response.write(b"begun")
    return response


@asynccontextmanager
async def upstream_server() -> AsyncIterator[Upstream]:
    """Serve an `Upstream` on a free loopback port while the block runs."""
    upstream = Upstream()
    app = web.Application(client_max_size=16 * 1024 * 1024)
    app.router.add_route("*", "/{path:.*}", upstream.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    upstream.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield upstream
    finally:
        upstream.closing.set()
        await runner.cleanup()
