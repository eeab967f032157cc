"""Who is next: interactive calls before batch ones, and among these the tenant that has least.

Taking from the tenant with the fewest running calls is max-min fairness over slots (Bertsekas and Gallager, Data
Networks, §6.5.2): a tenant that sends ten times as much waits longer, and nobody waits for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Caller(NamedTuple):
    """Whose call it is, as far as the order of calls is concerned."""

    tenant: str = ""
    is_batch: bool = False


class FairQueue(Generic[T]):
    """Waiting items in one line per tenant and class.

    Args:
        running: how many slots each tenant holds; read at each decision.
    """

    def __init__(self, running: Mapping[str, int]) -> None:
        self._running = running
        # A line that was served goes behind the others, so that equals take turns.
        self._lines: dict[bool, dict[str, deque[T]]] = {False: {}, True: {}}
        self._size = 0

    def __len__(self) -> int:
        """Return how many items wait."""
        return self._size

    def add(self, item: T, caller: Caller) -> None:
        """Put an item at the end of its caller's line."""
        self._lines[caller.is_batch].setdefault(caller.tenant, deque()).append(item)
        self._size += 1

    def discard(self, item: T, caller: Caller) -> None:
        """Take an item out of its caller's line, wherever it stands, if it is still there."""
        lines = self._lines[caller.is_batch]
        line = lines.get(caller.tenant)
        if line is None or item not in line:
            return
        line.remove(item)
        self._size -= 1
        if not line:
            del lines[caller.tenant]

    def take(self) -> tuple[T, Caller] | None:
        """Take the item that is next; None when nobody waits."""
        for is_batch, lines in self._lines.items():
            if lines:
                tenant = min(lines, key=lambda tenant: self._running.get(tenant, 0))
                line = lines.pop(tenant)
                item = line.popleft()
                if line:
                    lines[tenant] = line
                self._size -= 1
                return item, Caller(tenant, is_batch)
        return None

    def ahead_of(self, caller: Caller) -> int:
        """Return how many waiting items a new one of `caller` would let pass, if nobody else came."""
        before = sum(map(len, self._lines[False].values())) if caller.is_batch else 0
        lines = self._lines[caller.is_batch]
        own = len(lines.get(caller.tenant, ()))
        others = (line for tenant, line in lines.items() if tenant != caller.tenant)
        return before + own + sum(min(len(line), own + 1) for line in others)

    def yield_to(self, caller: Caller) -> tuple[T, Caller] | None:
        """Take out the item that has to go so that a full queue can hold one of `caller`.

        It is the newest of the longest line, batch lines first. None when the newcomer has the weaker claim.
        """
        for is_batch in (True, False):
            lines = self._lines[is_batch]
            if not lines:
                continue
            if caller.is_batch and not is_batch:
                return None
            tenant = max(lines, key=lambda tenant: len(lines[tenant]))
            own = len(lines.get(caller.tenant, ()))
            if is_batch == caller.is_batch and len(lines[tenant]) <= own + 1:
                return None
            victim = lines[tenant][-1]
            self.discard(victim, Caller(tenant, is_batch))
            return victim, Caller(tenant, is_batch)
        return None
