"""The folder where files lie, which all replicas and workers share.

`<root>/<tenant>/<place>/<id><anything>`: the tenant is a slug and the id a UUID, both of ours, so no name leads out.
A file is written under another name, synced, and only then given its own: what has a name is whole. S3 and the like
are not offered; a mounted volume is.
"""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Literal, ParamSpec, TypeVar

import anyio
import anyio.to_thread

from fleet_data.transfer.errors import FolderFull

Place = Literal["exports", "imports", "uploads"]

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_PART = ".part"
_CLEAN_S = 5.0

P = ParamSpec("P")
T = TypeVar("T")


class Draft:
    """A file that is not whole yet."""

    def __init__(self, final: Path) -> None:
        self._final = final
        self._part = final.with_name(f"{final.name}.{secrets.token_hex(4)}{_PART}")
        self._file: BinaryIO | None = None

    @property
    def file(self) -> BinaryIO:
        """Return where to write, in a thread."""
        assert self._file is not None  # noqa: S101 - `draft` has begun it
        return self._file

    def begin(self) -> None:
        """Create the file, readable by nobody else."""
        with full_is_ours():
            self._part.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            self._file = os.fdopen(handle, "wb", buffering=0)

    def keep(self) -> None:
        """Sync the file and give it its name; both or neither survive a crash."""
        with full_is_ours():
            self.file.flush()
            os.fsync(self.file.fileno())
            self.file.close()
            self._part.rename(self._final)
            sync_folder(self._final.parent)

    def drop(self) -> None:
        """Delete what was written, unless it was kept."""
        if self._file is None:
            return
        with suppress(OSError):  # a full disk may refuse to close it, too
            self._file.close()
        self._part.unlink(missing_ok=True)


class Folder:
    """Files of every tenant. Everything that waits for the disk does so in a few threads of its own."""

    def __init__(self, root: Path, *, threads: int = 8) -> None:
        self._root = root
        self._limiter = anyio.CapacityLimiter(threads)

    async def run(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `fn`, which waits for the disk, in a thread."""
        return await anyio.to_thread.run_sync(lambda: fn(*args, **kwargs), limiter=self._limiter)

    @asynccontextmanager
    async def draft(self, tenant: str, place: Place, name: str) -> AsyncGenerator[Draft]:
        """Yield a new file; unless it is kept nothing of it stays, whatever ends the block."""
        draft = Draft(self.path(tenant, place, name))
        try:
            await self.run(draft.begin)
            yield draft
        finally:
            with anyio.move_on_after(_CLEAN_S, shield=True):
                await self.run(draft.drop)

    def path(self, tenant: str, place: Place, name: str) -> Path:
        """Return where a file is, if it is there."""
        return self._root / tenant / place / name

    async def remove(self, tenant: str, place: Place, id_: str) -> None:
        """Delete every file that belongs to a job or an upload, unfinished ones included."""
        await self.run(self._remove, self._root / tenant / place, id_)

    @staticmethod
    def _remove(folder: Path, id_: str) -> None:
        for path in folder.glob(f"{id_}*"):
            path.unlink(missing_ok=True)


@contextmanager
def full_is_ours() -> Generator[None]:
    """Say that the folder is full where the system says so in its own words."""
    try:
        yield
    except OSError as exc:
        if exc.errno in _FULL:
            raise FolderFull from exc
        raise


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` survive a crash."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
