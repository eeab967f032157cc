"""From the rows that PostgreSQL copies to the bytes of a file: measured, and packed or made Parquet on the way.

PostgreSQL sends whole rows, and the driver hands on whole messages, so every piece ends where a row ends.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, BinaryIO, Protocol, cast

import anyio

from fleet_common.errors import NotConfigured
from fleet_data.transfer.errors import TransferTooLarge
from fleet_data.transfer.folder import Folder, full_is_ours
from fleet_data.transfer.models import Compression, ExportRequest, Progress
from fleet_data.transfer.sources import Column

# A write in a thread costs the loop about 0.1 ms: few and large. A row group of Parquet takes 14 times its size.
_PIECE_BYTES = 1024 * 1024
_GZIP_LEVEL = 1  # three times as fast as 6 for a tenth more bytes


class Output(Protocol):
    """Where pieces of CSV or JSON lines go."""

    def write(self, piece: bytes) -> object:
        """Take whole rows."""

    def close(self) -> object:
        """Write what is left; the file below stays open."""


class Measured:
    """A file that knows its length and digest, and refuses to become longer than it may."""

    closed = False

    def __init__(self, file: BinaryIO, most_bytes: int) -> None:
        self._file = file
        self._most = most_bytes
        self._sha256 = hashlib.sha256()
        self._is_discarded = False
        self.bytes = 0

    @property
    def sha256(self) -> str:
        """Return the digest of what was written, as hex."""
        return self._sha256.hexdigest()

    def write(self, piece: Any) -> int:
        """Write all of it.

        Raises:
            TransferTooLarge: the file would be longer than it may.
            FolderFull: there is no room.
        """
        if self._is_discarded:
            return len(piece)
        self.bytes += len(piece)
        if self.bytes > self._most:
            raise TransferTooLarge(f"the file would be larger than {self._most // 2**20} MB")
        self._sha256.update(piece)
        with full_is_ours():
            self._file.write(piece)
        return len(piece)

    def discard(self) -> None:
        """Write nothing from now on: the file will be deleted."""
        self._is_discarded = True

    def tell(self) -> int:
        """Return the length so far, as writers of formats ask for it."""
        return self.bytes

    def flush(self) -> None:
        """Do nothing: the draft is synced once, at its end."""

    def close(self) -> None:
        """Do nothing: the draft closes the file."""


def open_output(request: ExportRequest, columns: Sequence[Column], file: Measured) -> Output:
    """Return what turns copied rows into the file that was asked for.

    Raises:
        NotConfigured: the format needs the extra `parquet`, which is not installed.
    """
    if request.format == "parquet":
        return cast(Output, _arrow().ParquetOutput(columns, file, request.compress))
    if request.compress == "gzip":
        # Without a name and a time, equal rows make an equal file.
        return gzip.GzipFile("", "wb", _GZIP_LEVEL, cast(BinaryIO, file), mtime=0)
    if request.compress == "zstd":
        return cast(Output, _arrow().zstd_output(file))
    return file


@asynccontextmanager
async def rows_to(
    folder: Folder, output: Output, measured: Measured, progress: Progress
) -> AsyncGenerator[RowSink]:
    """Yield a sink for copied rows; when the block ends well, everything is in the file."""
    sink = RowSink(folder, output, measured, progress)
    try:
        yield sink
        await sink.finish()
    except BaseException:
        with anyio.CancelScope(shield=True):
            await sink.abandon()
        raise


class RowSink:
    """Collects rows and writes them in threads, one piece while the next one arrives."""

    def __init__(
        self, folder: Folder, output: Output, measured: Measured, progress: Progress
    ) -> None:
        self._folder = folder
        self._output = output
        self._measured = measured
        self._progress = progress
        self._pieces: list[bytes] = []
        self._size = 0
        self._writing: asyncio.Task[object] | None = None

    async def __call__(self, rows: bytes) -> None:
        """Take rows; returns when there is room for more."""
        self._pieces.append(rows)
        self._size += len(rows)
        if self._size >= _PIECE_BYTES:
            await self._flush()

    async def finish(self) -> None:
        """Write the rest."""
        await self._flush()
        await self._written()
        await self._folder.run(self._output.close)
        self._progress.bytes = self._measured.bytes

    async def abandon(self) -> None:
        """Close what packs the rows, without a further byte in the file: nobody may close it under a write."""
        if self._writing is not None:
            await asyncio.wait([self._writing])
        self._measured.discard()
        await self._folder.run(self._output.close)

    async def _flush(self) -> None:
        await self._written()
        piece, self._pieces, self._size = b"".join(self._pieces), [], 0
        if piece:
            write = self._folder.run(self._output.write, piece)
            self._writing = asyncio.create_task(write, name="export-write")

    async def _written(self) -> None:
        if self._writing is not None:
            await self._writing
            self._writing = None
            self._progress.bytes = self._measured.bytes


def needs_arrow(format_: str, compress: Compression) -> bool:
    """Return whether the extra `parquet` is needed."""
    return format_ == "parquet" or compress == "zstd"


def require_arrow() -> None:
    """Check that the extra is installed.

    Raises:
        NotConfigured: it is not.
    """
    _arrow()


def _arrow() -> Any:
    """Return the module that imports pyarrow: 40 MB of memory that nobody needs for CSV."""
    try:
        from fleet_data.transfer import arrow  # noqa: PLC0415
    except ModuleNotFoundError:
        raise NotConfigured(
            "Parquet and zstd need the extra `parquet` of fleet-data",
            hint="Use csv or jsonl with none or gzip",
        ) from None
    return arrow
