"""Where records go. A sink is used by one thread only, and takes all of a group of lines or none of it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fleet_common.audit.chain import BadRecord, peek_record
from fleet_common.audit.files import rotated_files
from fleet_common.settings import SettingsError

_SLOTS = 64
_TAIL_BYTES = 256 * 1024  # more than any record


@dataclass(frozen=True, slots=True)
class Tail:
    """What a sink already holds: the last hash, and how much of a half-written record had to go."""

    head: str | None = None
    cut_bytes: int = 0


class Sink(Protocol):
    """Where records go."""

    kind: str

    def open(self) -> Tail:
        """Get ready and return what is there already.

        Raises:
            SettingsError: it can never work like this.
        """

    def write(self, lines: Sequence[bytes]) -> None:
        """Write all lines; when it returns they are durable.

        Raises:
            OSError: none of them counts as written; the same lines will come again.
        """

    def close(self) -> None:
        """Let go of it."""


class StreamSink:
    """Records on a stream of this process, usually stdout; durable means handed to whoever reads it."""

    kind = "stdout"

    def __init__(self, descriptor: int = 1) -> None:
        self._descriptor = descriptor

    def open(self) -> Tail:
        """Return nothing: a stream is never continued."""
        return Tail()

    def write(self, lines: Sequence[bytes]) -> None:
        """Write all lines; waits while the reader is slow."""
        _write_all(self._descriptor, b"".join(lines))

    def close(self) -> None:
        """Leave the stream open: it is not ours."""


class FileSink:
    """Records in a file, mode 0600, put aside under a number when it is full; the chain goes on in the next.

    One process writes one file. A process that finds `data.jsonl` taken, such as a worker or the successor that starts
    before its predecessor has ended, writes `data-2.jsonl`, and so on.
    """

    kind = "file"

    def __init__(self, path: Path, *, max_bytes: int) -> None:
        self.path = path
        self._wanted = path
        self._max_bytes = max_bytes
        self._lock: int | None = None
        self._descriptor: int | None = None
        self._size = 0  # of what is durable

    def open(self) -> Tail:
        """Take a file, remove a half-written record from its end and return the last hash."""
        try:
            self._wanted.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._take()
            self._open_file()
            return self._read_tail()
        except OSError as exc:
            self.close()
            raise SettingsError(
                f"the audit log cannot be kept in {self._wanted} ({exc.strerror})"
            ) from None

    def write(self, lines: Sequence[bytes]) -> None:
        """Append the lines and sync them; a group that does not fit whole is taken back."""
        data = b"".join(lines)
        if self._descriptor is None or self._was_moved():
            self._open_file()
        elif self._size and self._size + len(data) > self._max_bytes:
            self._rotate()
        descriptor = self._file()
        try:
            _write_all(descriptor, data)
            os.fdatasync(descriptor)
        except OSError:
            # What a failed sync left in the page cache is not to be trusted: all of it is written again.
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, self._size)
            raise
        self._size += len(data)

    def close(self) -> None:
        """Close the file and let another process have it."""
        for descriptor in (self._descriptor, self._lock):
            if descriptor is not None:
                os.close(descriptor)
        self._descriptor = self._lock = None

    def _take(self) -> None:
        for slot in range(1, _SLOTS + 1):
            path = self._wanted
            if slot > 1:
                path = path.with_name(f"{path.stem}-{slot}{path.suffix}")
            lock = os.open(path.with_name(f"{path.name}.lock"), os.O_CREAT | os.O_RDWR, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                continue
            self.path, self._lock = path, lock
            return
        raise OSError(errno.EBUSY, "too many processes write it")

    def _open_file(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        flags = os.O_CREAT | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(self.path, flags, 0o600)
        self._descriptor = descriptor
        os.fchmod(descriptor, 0o600)
        self._size = os.fstat(descriptor).st_size
        _sync_folder(self.path.parent)

    def _rotate(self) -> None:
        numbers = [int(each.suffix[1:]) for each in rotated_files(self.path)]
        self.path.rename(self.path.with_name(f"{self.path.name}.{max(numbers, default=0) + 1:06}"))
        self._open_file()

    def _was_moved(self) -> bool:
        """Whether somebody took the file away: what we went on writing would be lost with it."""
        try:
            return not os.path.samestat(self.path.stat(), os.fstat(self._file()))
        except FileNotFoundError:
            return True

    def _read_tail(self) -> Tail:
        if self._size == 0:
            older = rotated_files(self.path)
            return Tail(_last_hash(_end_of(older[-1]))) if older else Tail()
        end = _end_of(self.path)
        whole = end.rfind(b"\n") + 1
        cut_bytes = len(end) - whole
        if cut_bytes:
            self._size -= cut_bytes
            os.ftruncate(self._file(), self._size)
        return Tail(_last_hash(end[:whole]), cut_bytes)

    def _file(self) -> int:
        if self._descriptor is None:
            raise OSError(errno.EBADF, "the file is not open")
        return self._descriptor


def _end_of(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
        return file.read()


def _last_hash(text: bytes) -> str | None:
    lines = text.splitlines(keepends=True)
    try:
        return str(peek_record(lines[-1])["hash"]) if lines else None
    except BadRecord:
        return None  # the new header then does not continue it, which the check reports


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(descriptor, rest) :]
        except BlockingIOError:  # a pipe that somebody else made non-blocking
            select.select([], [descriptor], [])


def _sync_folder(folder: Path) -> None:
    """Make the file's name as durable as its content."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
