"""Answers that GitHub may confirm instead of sending again: a 304 costs no rate limit and no parsing.

ETags differ by token (otterdog #201), so the key holds the token's hash; memory is bounded in bytes.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass

from fleet_devops.github.models import Reply

_OVERHEAD_BYTES = 512  # key, entry and bookkeeping, measured with sys.getsizeof and rounded up


@dataclass(frozen=True, slots=True)
class Entry:
    """One answer and what proves that it is still true."""

    validator: tuple[str, str]
    reply: Reply

    @property
    def size_bytes(self) -> int:
        """Return the memory the entry stands for."""
        return len(self.reply.body) + _OVERHEAD_BYTES


class EtagCache:
    """Least recently used answers go first."""

    def __init__(self, capacity_bytes: int) -> None:
        self._capacity = capacity_bytes
        self._size = 0
        self._entries: OrderedDict[str, Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    @staticmethod
    def key(token_hash: str, url: str, accept: str) -> str:
        """Return the key of one representation as one credential sees it."""
        return hashlib.sha256(f"{token_hash}\0{accept}\0{url}".encode()).hexdigest()

    def get(self, key: str) -> Entry | None:
        """Return the entry, which counts as its use."""
        entry = self._entries.get(key)
        if entry is not None:
            self._entries.move_to_end(key)
        return entry

    def put(self, key: str, entry: Entry) -> None:
        """Keep the entry; one that would push out most others is not worth it."""
        self._drop(key)
        if entry.size_bytes > self._capacity // 4:
            return
        self._entries[key] = entry
        self._size += entry.size_bytes
        while self._size > self._capacity:
            self._drop(next(iter(self._entries)))

    def _drop(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._size -= entry.size_bytes
