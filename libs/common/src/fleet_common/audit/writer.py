"""The thread that writes: one write and one sync serve everybody who came meanwhile.

Reads and refusals gather for at most `gather_s`; somebody who waits for a record ends the gathering. What could
not be written is kept, and tried again until it stands: the sink takes all of a group or none of it.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import structlog

from fleet_common.audit.chain import Chain
from fleet_common.audit.events import AuditEvent
from fleet_common.audit.sinks import Sink, Tail
from fleet_common.clock import Clock

log = structlog.get_logger()

Waiter = asyncio.Future[bool]


@dataclass(frozen=True, slots=True)
class Pace:
    """How long things may take, in seconds.

    Attributes:
        gather_s: longest wait of a buffered event. A crash costs what gathered; a group is sealed at a stretch,
            18 µs a record, while the event loop waits.
        retry_s: between attempts while the sink fails.
        patience_s: for one write; after that the sink counts as failing.
        anchor_s: between two anchors in the ordinary log.
    """

    gather_s: float = 0.2
    retry_s: float = 0.5
    patience_s: float = 5.0
    anchor_s: float = 60.0


USUAL_PACE = Pace()


class Item(NamedTuple):
    """An event to write, or only somebody who wants to know that all before stands."""

    event: AuditEvent | None
    waiter: Waiter | None = None


class Writer:
    """Writes one chain to one sink.

    Attributes:
        dropped: how many events found no room; only the event loop changes it.
    """

    def __init__(self, sink: Sink, chain: Chain, tail: Tail, *, pace: Pace, clock: Clock) -> None:
        self.dropped = 0
        self._sink = sink
        self._chain = chain
        self._tail = tail
        self._pace = pace
        self._clock = clock
        self._pending: deque[Item] = deque()
        self._in_hand = 0
        self._confessed = 0  # how many of `dropped` are in the chain
        self._fails = False
        self._writing_since: float | None = None
        self._anchored_at = clock()
        self._anchored = ""
        self._wake, self._hurry, self._finished = (threading.Event() for _ in range(3))
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._loop = asyncio.get_running_loop()

    def start(self) -> None:
        """Begin with the header."""
        self._thread.start()

    def put(self, item: Item) -> None:
        """Take an item; the thread is woken when it may be asleep."""
        self._pending.append(item)
        if item.waiter is not None:
            self._hurry.set()
        if item.waiter is not None or len(self._pending) == 1:
            self._wake.set()

    def finish(self) -> None:
        """Make the thread write what it has, close the chain and end."""
        self._finished.set()
        self._hurry.set()
        self._wake.set()

    def join(self, timeout_s: float) -> None:
        """Wait until the thread has ended."""
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            log.error("audit_lost", records=self.waiting, reason="the sink does not answer")

    @property
    def waiting(self) -> int:
        """How many events are accepted and not yet durable."""
        return len(self._pending) + self._in_hand

    @property
    def is_well(self) -> bool:
        """Whether the sink takes records, and in time."""
        since = self._writing_since
        slow = since is not None and self._clock() - since > self._pace.patience_s
        return not self._fails and not slow and self._thread.is_alive()

    def _run(self) -> None:
        tail = self._tail
        header = self._chain.start(self._sink.kind, previous=tail.head, cut_bytes=tail.cut_bytes)
        try:
            self._write([header], [])
            self._anchor()
            while not self._finished.is_set() or self._pending:
                self._wake.wait(self._pace.anchor_s)  # an idle log is anchored too
                self._wake.clear()
                self._hurry.wait(self._pace.gather_s)
                self._hurry.clear()
                self._write_pending()
            self._write([self._chain.stop()], [])
            self._anchor()
        except OSError as exc:
            # A record after those that are missing would look like somebody's work, so none follows.
            self._report(exc, "audit_lost", records=self.waiting)
        finally:
            self._sink.close()

    def _write_pending(self) -> None:
        lines, waiters = [], []
        while self._pending:
            self._in_hand += 1
            item = self._pending.popleft()
            if item.event is not None:
                lines.append(self._chain.event(item.event))
            if item.waiter is not None:
                waiters.append(item.waiter)
        if (dropped := self.dropped) > self._confessed:
            lines.append(self._chain.lost(dropped - self._confessed))
            self._confessed = dropped
        self._write(lines, waiters)
        if self._clock() - self._anchored_at >= self._pace.anchor_s:
            self._anchor()

    def _write(self, lines: list[bytes], waiters: list[Waiter]) -> None:
        """Write until it stands; those who wait hear of the first failure.

        Raises:
            OSError: the process ends and the sink still fails.
        """
        while not self._attempt(lines):
            self._tell(waiters, stands=False)
            waiters = []
            self._finished.wait(self._pace.retry_s)
        self._in_hand = 0
        self._tell(waiters, stands=True)

    def _attempt(self, lines: list[bytes]) -> bool:
        last = self._finished.is_set()
        self._writing_since = self._clock()
        try:
            if lines:
                self._sink.write(lines)
        except OSError as exc:
            self._failed(exc)
            if last:
                raise
            return False
        finally:
            self._writing_since = None
        self._worked()
        return True

    def _failed(self, exc: OSError) -> None:
        if not self._fails:
            self._report(exc, "audit_failed", sink=self._sink.kind)
        self._fails = True

    def _worked(self) -> None:
        if self._fails:
            log.info("audit_recovered", sink=self._sink.kind)
        self._fails = False

    @staticmethod
    def _report(exc: OSError, event: str, **facts: Any) -> None:
        log.error(event, reason=exc.strerror or str(exc), **facts)

    def _tell(self, waiters: Iterable[Waiter], *, stands: bool) -> None:
        if waiters:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(_settle, waiters, stands)

    def _anchor(self) -> None:
        """Name the newest hash in the ordinary log, which goes elsewhere: a cut-off end then shows."""
        self._anchored_at = self._clock()
        chain = self._chain
        if chain.head != self._anchored:
            self._anchored = chain.head
            log.info("audit_anchored", chain=chain.id, seq=chain.seq - 1, hash=chain.head)


def _settle(waiters: Iterable[Waiter], stands: bool) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(stands)
