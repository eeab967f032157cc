"""Whether the client is still there while its call runs: a service works on for nobody otherwise."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self, cast

from fleet_common.mcp.body import ClientGone
from fleet_gateway.routing.answer import Answer
from fleet_gateway.routing.body import Body

# Most calls are over before a watch would have been worth its task, which costs as much as reading the request.
_QUICK_S = 0.05


class Presence:
    """Looks for calls that are not quick: with one timer for all, which costs each of them next to nothing."""

    def __init__(self) -> None:
        self._new: set[WhileConnected] = set()
        self._seen: set[WhileConnected] = set()
        self._is_looking = False

    def needed(self, body: Body, answer: Answer) -> WhileConnected:
        """Return a `with` block that the client's presence is needed for."""
        return WhileConnected(self, body, answer)

    def add(self, call: WhileConnected) -> None:
        """Watch the client from the second look on, after 50 to 100 ms."""
        self._new.add(call)
        if not self._is_looking:
            self._look_later()

    def discard(self, call: WhileConnected) -> None:
        """Forget a call."""
        self._new.discard(call)
        self._seen.discard(call)

    def _look_later(self) -> None:
        self._is_looking = True
        asyncio.get_running_loop().call_later(_QUICK_S, self._look)

    def _look(self) -> None:
        for call in self._seen:
            call.watch()
        self._seen, self._new = self._new, set()
        self._is_looking = False
        if self._seen:
            self._look_later()


class WhileConnected:
    """Cancels a `with` block when the client hangs up before its answer is complete.

    Raises:
        ClientGone: it did; leaving the block says so.
    """

    __slots__ = ("_answer", "_body", "_has_left", "_presence", "_task", "_watch")

    def __init__(self, presence: Presence, body: Body, answer: Answer) -> None:
        self._presence = presence
        self._body = body
        self._answer = answer
        self._has_left = False
        self._watch: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        """Begin to watch, in a moment."""
        # Any: whatever the task returns is its own affair.
        self._task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._presence.add(self)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """Watch no longer."""
        self._presence.discard(self)
        if self._watch is not None:
            self._watch.remove_done_callback(self._cancel)
            self._watch.cancel()
        if kind is asyncio.CancelledError and self._has_left and self._task.uncancel() == 0:
            raise ClientGone from None

    def watch(self) -> None:
        """Begin to watch now."""
        self._watch = asyncio.create_task(self._body.client_left(), name="client-left")
        self._watch.add_done_callback(self._cancel)

    def _cancel(self, watch: asyncio.Task[None]) -> None:
        # Servers report the end of an answer as a disconnect, too.
        if not watch.cancelled() and not self._answer.is_complete:
            self._has_left = self._task.cancel()
