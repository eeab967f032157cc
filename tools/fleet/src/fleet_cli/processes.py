"""Processes by pid *and* start time, so that nothing is ever ended because of its name or a recycled pid.

`ProcessRecord` is what we write down about a child; `Child` is one that this process started. Both
end a process the same way: its own stop signal first, SIGKILL when its time is up, then whatever it
left behind.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psutil

# psutil derives the start time from the boot time, which a clock correction moves by fractions of a
# second.
START_TOLERANCE_S = 2.0
POLL_S = 0.02

Adopt = Callable[["Child"], None]
"""Told about a child the moment it exists, before it is ready: whoever owns it can record and stop it."""


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """One process of this boot: a pid and when it started, in seconds since the epoch."""

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> ProcessRecord | None:
        """Return the record of a live process; None if there is no such process."""
        try:
            return cls(pid, psutil.Process(pid).create_time())
        except psutil.NoSuchProcess:
            return None

    def process(self) -> psutil.Process | None:
        """Return the live process; None if it ended or the pid belongs to another one by now."""
        try:
            process = psutil.Process(self.pid)
            if abs(process.create_time() - self.started) > START_TOLERANCE_S:
                return None
            return None if process.status() == psutil.STATUS_ZOMBIE else process
        except psutil.NoSuchProcess:
            return None

    def end(self, stop_signal: int = signal.SIGTERM, *, grace_s: float = 5.0) -> bool:
        """End the process and its descendants; return False if it was already gone."""
        process = self.process()
        if process is None:
            return False
        family = descendants(process)
        send(process, stop_signal)
        wait_gone([process], grace_s)
        kill_all([process, *family])
        return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The system user a child runs as, when it must not be root."""

    name: str
    uid: int
    gid: int


class Handle(Protocol):
    """What a `Child` needs of `subprocess.Popen`."""

    pid: int

    def poll(self) -> int | None:
        """Return the exit status, negative for a signal, or None while the process runs."""
        ...

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit status once the process has ended."""
        ...

    def send_signal(self, sig: int) -> None:
        """Signal the process."""
        ...

    def kill(self) -> None:
        """End the process at once."""
        ...


@dataclass(slots=True)
class Child:
    """A process that we started: the handle, how to stop it and where it logs."""

    name: str
    popen: Handle
    log: Path
    stop_signal: int
    record: ProcessRecord
    log_start: int = 0

    @classmethod
    def start(
        cls,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        stop_signal: int = signal.SIGTERM,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        account: Account | None = None,
    ) -> Child:
        """Start `command` in its own session, so that a Ctrl-C in the terminal reaches only us."""
        with log.open("ab") as out:
            log_start = out.tell()
            popen = subprocess.Popen(  # noqa: S603  # the command is ours, never a user's text
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=None if env is None else dict(env),
                cwd=cwd,
                start_new_session=True,
                user=None if account is None else account.uid,
                group=None if account is None else account.gid,
                extra_groups=None if account is None else [],
            )
        # A child stays a zombie until it is reaped, so its record can always be read here.
        record = ProcessRecord.of(popen.pid) or ProcessRecord(popen.pid, time.time())
        return cls(name, popen, log, stop_signal, record, log_start)

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs."""
        return self.popen.poll() is None

    def stop(self, *, grace_s: float = 5.0) -> None:
        """End the process and its descendants; returns when all are gone."""
        process = self.record.process()
        family = descendants(process) if process is not None else []
        if self.is_alive:
            self.popen.send_signal(self.stop_signal)
        try:
            self.popen.wait(grace_s)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
        kill_all(family)

    def last_words(self, lines: int = 12) -> str:
        """Return the last lines it logged since it was started."""
        return tail(self.log, lines, start=self.log_start)


def descendants(process: psutil.Process) -> list[psutil.Process]:
    """Return all children of children of `process`."""
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def send(process: psutil.Process, signum: int) -> None:
    """Signal a process; psutil checks that the pid has not been recycled."""
    try:
        process.send_signal(signum)
    except psutil.NoSuchProcess:
        return


def kill_all(processes: Iterable[psutil.Process]) -> None:
    """Kill what is left of `processes` and wait until it is gone."""
    left = [process for process in processes if is_running(process)]
    for process in left:
        send(process, signal.SIGKILL)
    wait_gone(left, 5.0)


def is_running(process: psutil.Process) -> bool:
    """Whether the very same process still runs; a zombie does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_gone(processes: Sequence[psutil.Process], timeout_s: float) -> None:
    """Wait until none of `processes` runs, at most `timeout_s` seconds; they need not be our children."""
    until = time.monotonic() + timeout_s
    while any(is_running(process) for process in processes) and time.monotonic() < until:
        time.sleep(POLL_S)


def tail(path: Path, lines: int, *, start: int = 0, most_bytes: int = 64_000) -> str:
    """Return the last lines of a file past `start`, reading at most `most_bytes`; empty if there is no file."""
    try:
        with path.open("rb") as file:
            file.seek(max(start, file.seek(0, os.SEEK_END) - most_bytes))
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.splitlines()[-lines:] if lines else [])


def nobody_adopts(_child: Child) -> None:
    """Do nothing: the caller keeps the child that it gets back."""
