"""HTTP/1.1 connections to the services, none of them used for much longer than a minute.

Behind an address that stands for several pods (a Kubernetes Service) a connection stays with one pod; new pods would
get nothing from connections that live for ever.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from contextlib import asynccontextmanager
from types import TracebackType
from urllib.parse import urlsplit

import anyio.to_thread

from fleet_common.background import background
from fleet_common.errors import InvalidInput, Unavailable
from fleet_gateway.balancing.models import Address
from fleet_gateway.routing.connection import Connection, Headers

_MAX_AGE_S = 60.0
# uvicorn closes a connection that was idle for 5 s. To send on one in that moment looks like a lost call.
_KEEPALIVE_S = 4.0
_LOOK_S = 1.0  # time between two looks at what is idle or silent


class Refused(Exception):
    """Nobody took the connection: nothing was sent."""


class Exchange:
    """One request and its answer, as `async with connections.request(…) as answer`."""

    def __init__(
        self,
        connections: Connections,
        address: Address,
        asked: tuple[str, bytes, bytes | AsyncIterable[bytes]],
        answer_s: float | None,
    ) -> None:
        self._connections = connections
        self._address = address
        self._asked = asked
        self._answer_s = answer_s

    async def __aenter__(self) -> Connection:
        """Send the request and return the connection with the head of the answer.

        Raises:
            Refused: nobody took it.
            Broken: nobody answered.
            TimeoutError: nobody did in time.
            Unavailable: the gateway is not open.
        """
        if self._answer_s is None:
            return await self._begin()
        async with asyncio.timeout(self._answer_s):
            return await self._begin()

    async def _begin(self) -> Connection:
        connection = self._connection = await self._connections.take(self._address)
        try:
            await connection.ask(*self._asked)
        except BaseException:
            self._connections.give_back(connection)
            raise
        return connection

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Keep the connection for the next request, or close it when the answer was not wanted whole."""
        self._connections.give_back(self._connection)


class Connections:
    """Connections by address, opened as they are needed."""

    def __init__(self, *, connect_timeout_s: float, max_age_s: float = _MAX_AGE_S) -> None:
        self._connect_timeout_s = connect_timeout_s
        self._max_age_s = max_age_s
        self._idle: defaultdict[Address, list[Connection]] = defaultdict(list)
        self._busy: set[Connection] = set()
        self._tls: ssl.SSLContext | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[None]:
        """Keep connections while the block runs."""
        self._loop = asyncio.get_running_loop()
        try:
            async with background(self._watch(), name="watch-connections"):
                yield
        finally:
            self._loop = None
            for connection in [*self._busy, *(c for idle in self._idle.values() for c in idle)]:
                connection.close()
            self._idle.clear()

    def request(
        self,
        address: Address,
        method: str,
        target: str,
        headers: Iterable[tuple[bytes, bytes]],
        body: bytes | AsyncIterable[bytes] | None = None,
        *,
        answer_s: float | None = None,
    ) -> Exchange:
        """Return the exchange of one request.

        Args:
            address: who is asked.
            method: such as POST.
            target: path and query.
            headers: all but those that frame the body.
            body: None for none.
            answer_s: time until the head of the answer is there, in seconds; None for no end.

        Raises:
            InvalidInput: no header can hold one of the values.
        """
        framing: Headers = []
        if isinstance(body, bytes):
            framing = [(b"content-length", b"%d" % len(body))]
        elif body is not None:
            framing = [(b"transfer-encoding", b"chunked")]
        head = _head(method, target, [*headers, *framing])
        return Exchange(self, address, (method, head, body or b""), answer_s)

    async def take(self, address: Address) -> Connection:
        """Return a connection that is kept, or a new one.

        Raises:
            Refused: nobody listens there.
            Unavailable: the gateway is not open.
        """
        if self._loop is None:
            raise Unavailable("the gateway")
        now, kept = self._loop.time(), self._idle[address]
        while kept:
            connection = kept.pop()
            if self._is_fresh(connection, now):
                break
            connection.close()
        else:
            connection = await self._connect(address, self._loop)
        self._busy.add(connection)
        return connection

    def give_back(self, connection: Connection) -> None:
        """Keep a connection for the next request, or close it."""
        self._busy.discard(connection)
        if self._loop is not None and connection.is_reusable:
            connection.heard = self._loop.time()
            if connection.heard - connection.born < self._max_age_s:
                self._idle[connection.address].append(connection)
                return
        connection.close()

    async def _connect(self, address: Address, loop: asyncio.AbstractEventLoop) -> Connection:
        parts = urlsplit(address.origin)
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                _, connection = await loop.create_connection(
                    lambda: Connection(address, loop),
                    parts.hostname or "",
                    parts.port or (443 if parts.scheme == "https" else 80),
                    ssl=await self._context() if parts.scheme == "https" else None,
                    server_hostname=address.tls_name,
                )
        except (OSError, TimeoutError) as exc:
            raise Refused(type(exc).__name__) from exc
        return connection

    async def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            # In a thread: it reads the machine's certificates.
            self._tls = await anyio.to_thread.run_sync(ssl.create_default_context)
        return self._tls

    def _is_fresh(self, connection: Connection, now: float) -> bool:
        is_young = now - connection.born < self._max_age_s
        return connection.is_reusable and is_young and now - connection.heard < _KEEPALIVE_S

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            self._look(asyncio.get_running_loop().time())

    def _look(self, now: float) -> None:
        for address, kept in list(self._idle.items()):
            fresh = [connection for connection in kept if self._is_fresh(connection, now)]
            for connection in kept:
                if connection not in fresh:
                    connection.close()
            if fresh:
                self._idle[address] = fresh
            else:
                del self._idle[address]
        for connection in self._busy:
            if connection.is_silent:
                connection.close()


def _head(method: str, target: str, headers: Headers) -> bytes:
    first = f"{method} {target} HTTP/1.1".encode("latin-1")
    head = b"\r\n".join([first, *map(b": ".join, headers), b"", b""])
    is_one_each = head.count(b"\n") == head.count(b"\r") == len(headers) + 2
    if not is_one_each or first.count(b" ") != 2 or b"\0" in head:
        raise InvalidInput("a header holds what no header can")
    return head
