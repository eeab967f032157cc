"""The caller's trace context (W3C Trace Context), from HTTP headers or from the `_meta` of an MCP request."""

from __future__ import annotations

import re
from dataclasses import dataclass

# Section 3.2: version 00, lower-case hex; an id of all zeros is invalid.
_TRACEPARENT = r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
_VALID = re.compile(_TRACEPARENT)
_IN_META = re.compile(rf'"traceparent"\s*:\s*"({_TRACEPARENT})"'.encode())
_STATE_IN_META = re.compile(rb'"tracestate"\s*:\s*"([\x20-\x7e]{1,512}?)"')
_STATE_CHARS = 512  # section 3.3.1.5: what must be passed on at least, and enough


@dataclass(frozen=True, slots=True)
class TraceContext:
    """Where in which trace the caller is.

    Attributes:
        traceparent: the header, valid.
        tracestate: the vendors' list beside it; passed on, never read.
    """

    traceparent: str
    tracestate: str | None = None

    @property
    def trace_id(self) -> int:
        """Return the id of the whole trace."""
        return int(self.traceparent[3:35], 16)

    @property
    def span_id(self) -> int:
        """Return the id of the caller's span."""
        return int(self.traceparent[36:52], 16)

    @property
    def flags(self) -> int:
        """Return the flags; bit 0 says that the caller records its spans."""
        return int(self.traceparent[53:55], 16)

    @classmethod
    def of(cls, traceparent: str | None, tracestate: str | None) -> TraceContext | None:
        """Return the context that two headers describe, or None when there is none or it is malformed."""
        if not traceparent or not _VALID.fullmatch(traceparent):
            return None
        known = tracestate if tracestate and len(tracestate) <= _STATE_CHARS else None
        return cls(traceparent, known)

    @classmethod
    def in_body(cls, body: bytes) -> TraceContext | None:
        """Return the context in the `_meta` of a JSON-RPC request, or None.

        The bytes are searched and not parsed: a body is read before it is known whether it is JSON at all, and
        whatever is found, its sender chose it.
        """
        if b'"traceparent"' not in body or (found := _IN_META.search(body)) is None:
            return None
        state = _STATE_IN_META.search(body)
        return cls(found[1].decode(), state[1].decode() if state else None)
