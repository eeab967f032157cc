"""Servers as processes of their own, and the CPU they use."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from fleet_cli.engines.freeport import free_port

__all__ = ["Served", "free_port", "served"]


class Served:
    """A server that listens on a port of loopback."""

    def __init__(self, process: psutil.Process, port: int) -> None:
        self._process = process
        self.port = port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cpu_s(self) -> float:
        """Return the user and system time of the process so far, in seconds."""
        times = self._process.cpu_times()
        return float(times.user + times.system)


@contextmanager
def served(
    command: Sequence[str],
    *,
    port: int,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    start_s: float = 30.0,
) -> Iterator[Served]:
    """Run a server while the block runs, from when it listens on `port`.

    Raises:
        TimeoutError: it did not listen in time.
    """
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **(env or {})},
        cwd=cwd,
    )
    try:
        _wait_for(port, process, start_s)
        yield Served(psutil.Process(process.pid), port)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes], start_s: float) -> None:
    ends = time.monotonic() + start_s
    while time.monotonic() < ends and process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError(f"{process.args!r} did not start")
