"""Rows of a list, and the list that several services make together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakValueDictionary

from fleet_common.errors import UpstreamFailed


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Row:
    """A tool, prompt, resource or template as the client will see it.

    Attributes:
        key: what tells it from the other rows of its list: URI template, URI or name.
        encoded: its JSON, the same bytes for the same content.
    """

    key: str
    encoded: bytes

    @property
    def digest(self) -> str:
        """SHA-256 of its content."""
        return hashlib.sha256(self.encoded).hexdigest()

    def parsed(self) -> dict[str, Any]:
        """Return the content."""
        content: dict[str, Any] = json.loads(self.encoded)
        return content


_known: WeakValueDictionary[bytes, Row] = WeakValueDictionary()


def row_of(content: Any) -> Row:
    """Return the row for `content`; the same object for the same content, since most callers see the same rows.

    Raises:
        UpstreamFailed: it is no object with a name, or cannot be written as JSON.
    """
    if not isinstance(content, dict):
        raise UpstreamFailed("a service listed something that is no object")
    key = content.get("uriTemplate") or content.get("uri") or content.get("name")
    if not isinstance(key, str) or not key:
        raise UpstreamFailed("a service listed something without a name")
    if not all(
        isinstance(content.get(part) or {}, dict) for part in ("annotations", "inputSchema")
    ):
        raise UpstreamFailed(f"a service listed {key} with a malformed description")
    try:
        encoded = json.dumps(
            content, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":")
        ).encode()
    except (ValueError, RecursionError):
        raise UpstreamFailed("a service listed something that is no proper JSON") from None
    row = _known.get(encoded)
    if row is None:
        row = _known[encoded] = Row(key, encoded)
    return row


@dataclass(frozen=True, slots=True)
class Page:
    """What one source showed.

    Attributes:
        ttl_s: how long the source says that it holds, in seconds.
        version: of the source.
    """

    rows: tuple[Row, ...]
    ttl_s: float = 0.0
    version: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Merged:
    """What all sources together show one kind of caller; equal only to itself.

    Attributes:
        pages: the last good page of each source.
        is_complete: every source answered at the last look.
        looked_at: monotonic time at which that look began.
        changes: of the registry before that look.
        rows: all rows, the first of each key: the gateway's own `fleet_*` tools win.
    """

    pages: Mapping[str, Page]
    is_complete: bool
    looked_at: float
    changes: int = 0
    rows: tuple[Row, ...] = field(init=False)
    _shortest_s: float = field(init=False)

    def __post_init__(self) -> None:
        shortest = min((page.ttl_s for page in self.pages.values()), default=0.0)
        object.__setattr__(self, "_shortest_s", shortest)
        rows: dict[str, Row] = {}
        for row in (row for page in self.pages.values() for row in page.rows):
            rows.setdefault(row.key, row)
        object.__setattr__(self, "rows", tuple(rows.values()))

    def ttl_ms(self, now: float) -> int:
        """Return for how long a client may take it for fresh: the shortest word of any source, less its age."""
        if not self.is_complete:
            return 0
        return max(0, int((self._shortest_s - (now - self.looked_at)) * 1000))
