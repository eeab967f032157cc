"""HTTP connections to the services, none of them used for much longer than a minute.

Behind an address that stands for several pods (a Kubernetes Service) a connection stays with one pod; new
pods would get nothing from connections that live for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import aiohttp

from fleet_common.background import background
from fleet_common.errors import Unavailable

_MAX_AGE_S = 60.0
# uvicorn closes a connection that was idle for 5 s. To send on one in that moment looks like a lost call.
_KEEPALIVE_S = 4.0
_SILENCE_S = 120.0  # streams are pinged every 15 s; a peer that says nothing for this long is gone


class Generation:
    """A client session and how many requests use it."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session
        self.users = 0

    def __enter__(self) -> aiohttp.ClientSession:
        self.users += 1
        return self.session

    def __exit__(self, *_: object) -> None:
        self.users -= 1


class Connections:
    """A client session that is replaced every minute and closed when its last request is over."""

    def __init__(self, *, connect_timeout_s: float, max_age_s: float = _MAX_AGE_S) -> None:
        self._timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=connect_timeout_s, sock_read=_SILENCE_S
        )
        self._max_age_s = max_age_s
        self._current: Generation | None = None
        self._retired: list[Generation] = []

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[None]:
        """Keep connections while the block runs."""
        self._current = self._new()
        try:
            async with background(self._recycle(), name="recycle-connections"):
                yield
        finally:
            last, self._current = self._current, None
            for generation in (last, *self._retired):
                await generation.session.close()

    @property
    def current(self) -> Generation:
        """What a new request uses, as `with connections.current as session`.

        Raises:
            Unavailable: the gateway is not open.
        """
        if self._current is None:
            raise Unavailable("the gateway")
        return self._current

    async def _recycle(self) -> None:
        while True:
            await asyncio.sleep(self._max_age_s)
            self._retired.append(self.current)
            self._current = self._new()
            for generation in [one for one in self._retired if not one.users]:
                self._retired.remove(generation)
                await generation.session.close()

    def _new(self) -> Generation:
        return Generation(
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE_S),
                timeout=self._timeout,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        )
