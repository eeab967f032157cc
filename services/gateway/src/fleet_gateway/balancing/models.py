"""One endpoint of a service, and how it has been doing lately."""

from __future__ import annotations

import math
from dataclasses import dataclass

# Answers faster than this are equally fast: below it, noise would send all traffic to one pod.
_FLOOR_S = 0.01
# A slow endpoint gets few requests, so its figure must improve without them.
_FORGET_S = 10.0
_WEIGHT = 0.2  # of the newest answer
_FAILURES = 3  # in a row, after which an endpoint is left alone
_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 30.0


@dataclass(frozen=True, slots=True)
class Address:
    """Where an endpoint listens.

    Attributes:
        origin: scheme, IP address and port, such as `http://10.0.0.7:8081`.
        authority: host and port as configured; what the endpoint expects in `Host`.
        tls_name: whose certificate it must show; None without TLS.
        path: of its MCP endpoint.
    """

    origin: str
    authority: str
    tls_name: str | None = None
    path: str = "/mcp"


@dataclass(slots=True, eq=False)
class Endpoint:
    """One pod, or whatever else has an address of its own.

    Attributes:
        in_flight: requests it is working on for us.
        out_until: monotonic time until which it is left alone.
    """

    address: Address
    in_flight: int = 0
    out_until: float = 0.0
    _latency_s: float = 0.0
    _measured_at: float = 0.0
    _failures: int = 0
    _pauses: int = 0

    def load(self, now: float) -> float:
        """Return how long a further request would probably take here; only its order means something."""
        return (self.in_flight + 1) * max(_FLOOR_S, self._latency(now))

    def answered(self, seconds: float, now: float) -> None:
        """Note an answer whose first byte came after `seconds`."""
        known = self._latency(now)
        self._latency_s = known + _WEIGHT * (seconds - known)
        self._measured_at = now
        self._failures = self._pauses = 0

    def failed(self, now: float, *, is_certain: bool) -> bool:
        """Note a failure; return whether the endpoint should be left alone from now on.

        Args:
            now: monotonic time.
            is_certain: nobody listens there, so that one failure is enough.
        """
        self._failures += 1
        return now >= self.out_until and (is_certain or self._failures >= _FAILURES)

    def pause(self, now: float) -> None:
        """Leave it alone for a second, and for twice as long each time until it answers again."""
        self.out_until = now + min(_PAUSE_S * 2**self._pauses, _LONGEST_PAUSE_S)
        self._pauses = min(self._pauses + 1, 10)
        self._failures = 0

    def _latency(self, now: float) -> float:
        return self._latency_s * math.exp((self._measured_at - now) / _FORGET_S)
