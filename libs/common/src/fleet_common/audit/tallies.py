"""Counting refusals that are alike: a flood costs one record each moment, and little of the CPU it is after."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import replace

from fleet_common.audit.events import AuditEvent


class Tallies:
    """Refusals of the last moments, by what they have in common. Used by the event loop only."""

    def __init__(self, record: Callable[[AuditEvent], None], *, window_s: float, most: int) -> None:
        """Start empty.

        Args:
            record: takes what was counted.
            window_s: how long alike ones are counted together.
            most: different ones that are counted at a time.
        """
        self._record = record
        self._window_s = window_s
        self._most = most
        self._open: dict[Hashable, tuple[AuditEvent, int]] = {}

    def add(self, alike: Hashable, make: Callable[[], AuditEvent]) -> None:
        """Count one; `make` is asked for the event of the first of those that share `alike`."""
        if alike in self._open:
            event, count = self._open[alike]
            self._open[alike] = event, count + 1
            return
        if len(self._open) >= self._most:
            self.flush()
        if not self._open:
            asyncio.get_running_loop().call_later(self._window_s, self.flush)
        self._open[alike] = make(), 1

    def flush(self) -> None:
        """Record what was counted so far."""
        counted, self._open = self._open, {}
        for event, count in counted.values():
            self._record(replace(event, count=count))
