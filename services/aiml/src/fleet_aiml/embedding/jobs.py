"""What waits in a `BatchQueue`: one job per distinct input, and the requests that wait for it."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from fleet_aiml.embedding.batches import Lane

ItemT = TypeVar("ItemT", bound=Hashable)
ResultT = TypeVar("ResultT")


class Request(Generic[ResultT]):
    """One caller's wait for several inputs. Only the event loop touches it, except to read `is_live`."""

    def __init__(self, size: int) -> None:
        self._future: asyncio.Future[list[ResultT]] = asyncio.get_running_loop().create_future()
        self._results: dict[int, ResultT] = {}
        self._size = size

    async def wait(self) -> list[ResultT]:
        """Return the results in the order of the inputs."""
        return await self._future

    @property
    def is_live(self) -> bool:
        """Whether the caller still waits."""
        return not self._future.done()

    def answer(self, position: int, result: ResultT) -> None:
        """Set the result of one input; the last one wakes the caller."""
        self._results[position] = result
        if len(self._results) == self._size and self.is_live:
            self._future.set_result([self._results[i] for i in range(self._size)])

    def refuse(self, error: Exception) -> None:
        """Wake the caller with an error."""
        if self.is_live:
            self._future.set_exception(error)


@dataclass(slots=True, eq=False)
class Job(Generic[ItemT, ResultT]):
    """One input and everybody who waits for it.

    Attributes:
        item: the input.
        lane: interactive as soon as one interactive caller waits for it.
        cost: tokens; a guess until `tokens` is set.
        arrived: when it was queued, on the queue's clock.
        expires: when the last of its callers stops waiting.
        waiters: each request, and the position of the input in it.
        tokens: the input as the model reads it, once prepared.
    """

    item: ItemT
    lane: Lane
    cost: int
    arrived: float
    expires: float
    waiters: list[tuple[Request[ResultT], int]] = field(default_factory=list)
    tokens: list[int] | None = None

    def join(self, request: Request[ResultT], position: int, lane: Lane, expires: float) -> None:
        """Let one more request wait for this input."""
        self.waiters.append((request, position))
        self.expires = max(self.expires, expires)
        self.lane = "interactive" if lane == "interactive" else self.lane

    def is_wanted(self, now: float) -> bool:
        """Return whether anybody still waits for it."""
        return self.expires > now and any(request.is_live for request, _ in self.waiters)
