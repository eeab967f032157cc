"""Our end of the fork server: it is asked for services, and tells how they ended.

Only for Linux: the frameworks of macOS do not survive a fork, so there every service starts by itself.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, cast

from fleet_cli.errors import StartFailed
from fleet_cli.processes import POLL_S, Child, ProcessRecord

AVAILABLE = sys.platform == "linux"
NAME = "forkserver"
_FORK_S = 60.0  # a fork takes a millisecond; the import before the first one takes seconds


class Forked:
    """A process that the fork server started, with the part of `subprocess.Popen` that a `Child` needs."""

    def __init__(self, pid: int, server_gone: threading.Event) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.record = ProcessRecord.of(pid) or ProcessRecord(pid, time.time())
        self._server_gone = server_gone

    def poll(self) -> int | None:
        """Return the exit status, or None while the process runs."""
        if self.returncode is None and self._server_gone.is_set() and not self.record.process():
            self.returncode = -signal.SIGKILL  # nobody is left who could know better
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status once the process has ended.

        Raises:
            subprocess.TimeoutExpired: it still runs after `timeout` seconds.
        """
        until = time.monotonic() + (float("inf") if timeout is None else timeout)
        while (status := self.poll()) is None:
            if time.monotonic() > until:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
            time.sleep(POLL_S)
        return status

    def send_signal(self, sig: int) -> None:
        """Signal the process, unless it has ended."""
        if self.poll() is None and self.record.process() is not None:
            os.kill(self.pid, sig)

    def kill(self) -> None:
        """End the process at once."""
        self.send_signal(signal.SIGKILL)


class ForkServer:
    """A process that has imported what all services import. Threads may ask it at the same time."""

    def __init__(self, preloaded: str, *, log: Path) -> None:
        with log.open("ab") as out:
            self._popen = subprocess.Popen(  # noqa: S603  # the command is ours
                [sys.executable, "-u", "-m", "fleet_cli.forkserver", preloaded],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=out,
                bufsize=0,
                start_new_session=True,
            )
        record = ProcessRecord.of(self._popen.pid) or ProcessRecord(self._popen.pid, time.time())
        self.child = Child(NAME, self._popen, log, signal.SIGTERM, record)
        self._asking = threading.Lock()
        self._gone = threading.Event()
        self._born: queue.Queue[Forked] = queue.Queue()
        # Both are pipes, as asked for above; Popen's type says that they may be None.
        self._orders = cast(IO[bytes], self._popen.stdin)
        answers = cast(IO[bytes], self._popen.stdout)
        threading.Thread(target=self._listen, args=(answers,), name=NAME, daemon=True).start()

    def start(
        self, name: str, module: Sequence[str], *, log: Path, env: Mapping[str, str], cwd: Path
    ) -> Child:
        """Start `python -m <module>` and return it.

        Raises:
            StartFailed: the server ended, or did not answer in time.
        """
        log.touch(0o600)
        log_start = log.stat().st_size
        order = {"module": list(module), "log": str(log), "env": dict(env), "cwd": str(cwd)}
        with self._asking:
            forked = self._fork(order)
        return Child(name, forked, log, signal.SIGTERM, forked.record, log_start)

    def _fork(self, order: Mapping[str, object]) -> Forked:
        until = time.monotonic() + _FORK_S
        try:
            self._orders.write(json.dumps(order).encode() + b"\n")
        except (OSError, ValueError):
            self._gone.set()
        while not self._gone.is_set() and time.monotonic() < until:
            try:
                return self._born.get(timeout=POLL_S)
            except queue.Empty:
                continue
        raise StartFailed(f"the fork server did not answer.\n{self.child.last_words()}")

    def _listen(self, answers: IO[bytes]) -> None:
        forked: dict[int, Forked] = {}
        with answers, self._orders:
            for line in answers:
                fact: dict[str, int] = json.loads(line)
                if "pid" in fact:
                    forked[fact["pid"]] = Forked(fact["pid"], self._gone)
                    self._born.put(forked[fact["pid"]])
                elif fact["ended"] in forked:
                    forked.pop(fact["ended"]).returncode = fact["status"]
            self._gone.set()
