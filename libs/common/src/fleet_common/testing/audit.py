"""An audit sink in memory that fails or hangs on demand."""

from __future__ import annotations

import errno
import threading
from collections.abc import Sequence

from fleet_common.audit.chain import Record, read_record
from fleet_common.audit.sinks import Tail


class MemorySink:
    """Keeps groups of lines in a list.

    Attributes:
        groups: what was written at once, in order.
        fails: while it is set, nothing is taken.
        gate: while it is clear, a write hangs, for five seconds at most.
    """

    kind = "file"

    def __init__(self) -> None:
        self.groups: list[list[bytes]] = []
        self.fails = False
        self.gate = threading.Event()
        self.gate.set()
        self.is_open = False

    def open(self) -> Tail:
        """Return nothing: it always starts empty."""
        self.is_open = True
        return Tail()

    def write(self, lines: Sequence[bytes]) -> None:
        """Keep the lines, or fail as a full disk does."""
        self.gate.wait(5)
        if self.fails:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.groups.append(list(lines))

    def close(self) -> None:
        """Remember that it is closed."""
        self.is_open = False

    @property
    def lines(self) -> list[bytes]:
        """Every line in order."""
        return [line for group in self.groups for line in group]

    @property
    def records(self) -> list[Record]:
        """Every record in order, each checked against its own hash."""
        return [read_record(line) for line in self.lines]

    @property
    def events(self) -> list[Record]:
        """The records of events only."""
        return [record for record in self.records if record["kind"] == "event"]

    def targets(self) -> list[str]:
        """Return what each event was about."""
        return [record["target"] for record in self.events]
