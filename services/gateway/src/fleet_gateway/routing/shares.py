"""How many requests of one kind there may be at once, and how many of these for one sender.

For requests that hold no slot of the admission: whoever knows a signed link, or makes one up, could hold all slots,
and tools would wait for a slow download.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from ipaddress import IPv6Address, ip_address, ip_network

from starlette.types import Scope

from fleet_common.errors import Overloaded, RateLimited

_AGAIN_S = 5.0
_HOME_BITS = 64  # of an IPv6 address: one subscriber has all addresses below it (RFC 6177)


class Share:
    """The room for one kind.

    Args:
        at_once: of all senders together.
        for_one: of one of them; half by default.
        what: they are, in words.
    """

    def __init__(
        self, at_once: int, *, for_one: int | None = None, what: str = "requests of this kind"
    ) -> None:
        self._at_once = at_once
        self._for_one = for_one or max(1, at_once // 2)
        self._what = what
        self._held: Counter[str] = Counter()

    @contextmanager
    def held(self, sender: str) -> Generator[None]:
        """Count one request of `sender` while the block runs.

        Raises:
            Overloaded: there is no room.
            RateLimited: there is room, but not for more of this sender.
        """
        if self._held.total() >= self._at_once:
            raise Overloaded(f"too many {self._what} at once", retry_after_s=_AGAIN_S)
        if self._held[sender] >= self._for_one:
            raise RateLimited(f"too many {self._what} from you at once", retry_after_s=_AGAIN_S)
        self._held[sender] += 1
        try:
            yield
        finally:
            self._held[sender] -= 1
            if not self._held[sender]:
                del self._held[sender]


def address_of(scope: Scope) -> str:
    """Return where a request comes from, for shares: its IPv4 address, or its IPv6 network."""
    host = (scope.get("client") or ("",))[0]
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if isinstance(address, IPv6Address) and address.ipv4_mapped is None:
        return str(ip_network((int(address), _HOME_BITS), strict=False))
    return host
