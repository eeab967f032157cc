"""The log as the event loop sees it: events go into a bounded buffer at once, a writer thread makes them durable.

While the sink fails, or the buffer is full, `check` refuses calls; what was accepted is kept and written as soon as
the sink works again, so the log recovers by itself.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncGenerator, Callable, Hashable
from contextlib import asynccontextmanager, suppress

import anyio
import anyio.to_thread
import structlog

from fleet_common.audit.chain import Chain
from fleet_common.audit.events import AuditEvent
from fleet_common.audit.reading import Reader
from fleet_common.audit.sinks import Sink
from fleet_common.audit.tallies import Tallies
from fleet_common.audit.writer import USUAL_PACE, Item, Pace, Writer
from fleet_common.clock import Clock
from fleet_common.errors import AuditUnavailable

log = structlog.get_logger()

_CLOSE_S = 5.0  # what shutdown waits for a disk that does not answer


class AuditLog:
    """The audit log of one process.

    Attributes:
        sink: where the records go.
        reader: finds them again; None where that cannot be done from here.
        key: what arguments are digested with; None for a plain digest.
        captures: whether masked arguments and results are wanted.
    """

    def __init__(
        self,
        sink: Sink,
        *,
        service: str,
        reader: Reader | None = None,
        key: bytes | None = None,
        captures: bool = False,
        capacity: int = 8192,
        pace: Pace = USUAL_PACE,
        clock: Clock = time.monotonic,
    ) -> None:
        """Make a log that is not open yet.

        Args:
            sink: where the records go.
            service: name that every record carries.
            reader: see the attribute.
            key: makes hashes and digests HMACs.
            captures: see the attribute.
            capacity: events that may wait for the sink.
            pace: how long things may take.
            clock: seconds that only grow.
        """
        self.sink = sink
        self.reader = reader
        self.key = key
        self.captures = captures
        self._service = service
        self._capacity = capacity
        self._pace = pace
        self._clock = clock
        self._writer: Writer | None = None
        self._tallies = Tallies(self.append, window_s=pace.gather_s / 2, most=capacity // 8)

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[None]:
        """Start a chain, continuing what the sink already holds; close it after the block.

        The header is durable when the block begins, unless the sink fails.

        Raises:
            SettingsError: the sink cannot be used at all, such as a folder that may not be written to.
        """
        instance = f"{socket.gethostname()}:{os.getpid()}"
        chain = Chain(service=self._service, instance=instance, key=self.key)
        tail = await anyio.to_thread.run_sync(self.sink.open)
        writer = Writer(self.sink, chain, tail, pace=self._pace, clock=self._clock)
        writer.start()
        self._writer = writer
        try:
            with suppress(AuditUnavailable):  # then readiness and every call say so
                await self.flush()
            yield
        finally:
            self._tallies.flush()
            self._writer = None
            writer.finish()
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(writer.join, _CLOSE_S)

    def check(self) -> None:
        """Return when a call that starts now can be recorded.

        Raises:
            AuditUnavailable: the sink fails, is too slow, or the buffer is full; retry in a moment.
        """
        writer = self._writer
        if writer is None or not writer.is_well or writer.waiting >= self._capacity:
            raise AuditUnavailable

    async def probe(self) -> None:
        """Do as `check`, for readiness.

        Raises:
            AuditUnavailable: as in `check`.
        """
        self.check()

    def append(self, event: AuditEvent) -> None:
        """Record an event within a moment; never waits and never raises.

        Far past the capacity, which only refusals can reach, events are counted instead of kept.
        """
        self._put(Item(event))

    def tally(self, alike: Hashable, make: Callable[[], AuditEvent]) -> None:
        """Record a refusal as `append` does; those that share `alike` within a moment become one record with a count.

        Args:
            alike: what they have in common.
            make: returns the event; it is only asked for the first.
        """
        self._tallies.add(alike, make)

    async def commit(self, event: AuditEvent) -> None:
        """Record an event and return once its record is durable.

        Raises:
            AuditUnavailable: it is not durable yet; it will be written when the sink recovers.
        """
        await self._durable(event)

    async def flush(self) -> None:
        """Return once everything that was appended before is durable.

        Raises:
            AuditUnavailable: it is not.
        """
        await self._durable(None)

    async def _durable(self, event: AuditEvent | None) -> None:
        waiter = asyncio.get_running_loop().create_future()
        if not self._put(Item(event, waiter)):
            raise AuditUnavailable
        try:
            async with asyncio.timeout(self._pace.patience_s):
                stands = await waiter
        except TimeoutError:
            raise AuditUnavailable from None
        if not stands:
            raise AuditUnavailable

    def _put(self, item: Item) -> bool:
        """Take an item; return whether it will stand soon."""
        writer = self._writer
        if writer is None:
            log.error("audit_lost", records=1, reason="the log is not open")
            return False
        if writer.waiting >= 2 * self._capacity:
            writer.dropped += 1
            return False
        writer.put(item)
        return writer.is_well
