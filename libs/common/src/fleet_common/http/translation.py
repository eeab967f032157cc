"""What aiohttp and httpx raise, translated once, for the head of an answer and for its body."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import aiohttp
import httpx

from fleet_common.deadline import remaining
from fleet_common.errors import DeadlineExceeded, FleetError, Unavailable, UpstreamFailed

NEVER_S = 24 * 3600.0
"""Stands for "no limit" where a number is needed."""


class NotReached(Unavailable):
    """Raised when there was no connection, or it broke; a repeatable request may be sent again."""


class Body(httpx.AsyncByteStream):
    """A response's bytes as they come, with the deadline and the errors of this package."""

    def __init__(self, stream: httpx.AsyncByteStream, name: str) -> None:
        self._stream = stream
        self._name = name

    async def __aiter__(self) -> AsyncIterator[bytes]:
        chunks = aiter(self._stream)
        while (chunk := await self._next(chunks)) is not None:
            yield chunk

    async def _next(self, chunks: AsyncIterator[bytes]) -> bytes | None:
        with translated(self._name):
            async with asyncio.timeout(remaining(NEVER_S)):
                return await anext(chunks, None)

    async def aclose(self) -> None:
        """Give the connection back."""
        with translated(self._name):
            await self._stream.aclose()


@contextmanager
def translated(name: str) -> Iterator[None]:
    """Turn what the libraries raise inside the block into one of our errors.

    Raises:
        DeadlineExceeded: a time limit passed while waiting for an answer.
        NotReached: there was no connection, or it broke.
        UpstreamFailed: what came back is not HTTP.
    """
    try:
        yield
    except httpx.UnsupportedProtocol:
        raise
    except httpx.TransportError as exc:
        # httpx-aiohttp 0.2 calls a refused or lost connection a ConnectTimeout; its cause is right.
        raise _translation(name, exc.__cause__ or exc) from exc
    except (aiohttp.ClientError, OSError) as exc:
        raise _translation(name, exc) from exc


def _translation(name: str, cause: BaseException) -> FleetError:
    if isinstance(cause, aiohttp.ConnectionTimeoutError):
        return NotReached(name)
    if isinstance(cause, TimeoutError):
        return DeadlineExceeded(f"{name} did not answer in time")
    if isinstance(cause, aiohttp.ClientResponseError):
        return UpstreamFailed(f"{name} answered with something that is not HTTP")
    return NotReached(name)
