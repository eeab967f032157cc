"""Calls that a service makes through the gateway while it works on one: they run in the slot of that call.

Every forwarded request carries a signed marker. A service that calls back copies it, and the gateway then asks
for no further slot: waiting for one, while the first call holds the last, would be a deadlock. The marker says
nothing about the caller and opens no door.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable

from starlette.types import Scope

from fleet_common.mcp.headers import first_values, header

MARKER_HEADER = "fleet-call"
_NAME = MARKER_HEADER.encode()
_DEEPEST = 4  # deeper calls need a slot again, so that a service that calls itself for ever is shed
_LIFETIME_S = 3600  # longer than any call
_RENEWED_S = 60


class Nesting:
    """Makes and checks markers; all replicas of the gateway share the key, so any may get the nested call."""

    def __init__(self, private_pem: bytes, *, now: Callable[[], float] = time.time) -> None:
        self._key = hashlib.sha256(b"fleet-call\0" + private_pem).digest()
        self._now = now
        self._made: dict[int, tuple[int, str]] = {}

    def is_nested(self, scope: Scope) -> bool:
        """Return whether the request comes from inside a call that holds a slot."""
        return _NAME in first_values(scope) and self._depth(scope) > 0

    def marker(self, scope: Scope) -> str:
        """Return the marker for the request that `scope` is forwarded as."""
        depth = self._depth(scope) + 1
        expires = (int(self._now()) // _RENEWED_S + 1) * _RENEWED_S + _LIFETIME_S
        known = self._made.get(depth)
        if known is None or known[0] != expires:
            known = self._made[depth] = (expires, self._signed(f"{depth}.{expires}"))
        return known[1]

    def _depth(self, scope: Scope) -> int:
        """Return how many calls the request is inside of; 0 without a valid marker."""
        if _NAME not in first_values(scope):
            return 0
        marker = header(scope, _NAME)
        text, _, _ = marker.rpartition(".")
        if not text or not hmac.compare_digest(marker.encode(), self._signed(text).encode()):
            return 0
        depth, _, expires = text.partition(".")
        is_current = self._now() < int(expires)
        return int(depth) if is_current and int(depth) <= _DEEPEST else 0

    def _signed(self, text: str) -> str:
        return f"{text}.{hmac.digest(self._key, text.encode('latin-1'), 'sha256').hex()}"
