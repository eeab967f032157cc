"""A free TCP port on loopback, for engines of tests."""

from __future__ import annotations

import socket


def free_port() -> int:
    """Return a port that was free a moment ago; the caller must be ready to lose the race."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
