"""Files on their way in: sent at once or in pieces, to a signed link.

`PUT /uploads/{id}` appends the body at `Upload-Offset` (0 by default) and completes the file, unless the request says
`Upload-Complete: ?0`; `HEAD` tells how much has arrived. What came before a connection broke is kept, so a sender
goes on where it ended. The headers are those of the IETF draft on resumable uploads, and `Repr-Digest` of RFC 9530.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import os
from collections.abc import AsyncGenerator, AsyncIterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO
from uuid import UUID, uuid5

from fleet_common.errors import Conflict, InvalidInput, NotConfigured, NotFound, PayloadTooLarge
from fleet_data.claims import Caller
from fleet_data.ids import uuid7
from fleet_data.pool import Database
from fleet_data.transfer.folder import Folder, full_is_ours, sync_folder
from fleet_data.transfer.links import Links
from fleet_data.transfer.models import Due

_OF_TEXT = UUID(
    "7b0d6d9e-7f0c-4f5e-9a55-6f1f0c1d0a11"
)  # of ids that are made from what a file holds
_PIECE_BYTES = 1024 * 1024


class WrongOffset(Conflict):
    """Raised when a piece does not begin where the last one ended; `found` is where that is."""

    def __init__(self, found: int) -> None:
        super().__init__(f"{found} bytes are here", hint="Send the rest")
        self.found = found


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a file as somebody sends it; `sha256` is of the whole file, when the sender says."""

    body: AsyncIterable[bytes]
    offset: int = 0
    completes: bool = True
    sha256: bytes | None = None


class Uploads:
    """The files of every tenant that wait for an import."""

    def __init__(
        self,
        database: Database,
        folder: Folder | None,
        links: Links,
        *,
        most_bytes: int,
        life: timedelta,
    ) -> None:
        self.most_bytes = most_bytes
        self._database = database
        self._folder = folder
        self._links = links
        self._life = life

    @property
    def folder(self) -> Folder:
        """Return the folder.

        Raises:
            NotConfigured: there is none.
        """
        if self._folder is None:
            raise NotConfigured(
                "this service has no folder for files", hint="An operator sets FLEET_DATA_FILES_DIR"
            )
        return self._folder

    async def open(self, caller: Caller) -> tuple[str, str]:
        """Return the id of a new upload, and the link that takes its bytes."""
        _ = self.folder
        id_ = str(uuid7())
        await self._insert(caller, id_)
        life_s = self._life.total_seconds()
        return id_, self._links.make("uploads", caller.tenant, id_, life_s=life_s)

    async def of_text(self, caller: Caller, text: str) -> str:
        """Return the id of an upload that holds `text`; the same text of the same caller has the same id."""
        digest = hashlib.sha256(text.encode()).hexdigest()
        id_ = str(uuid5(_OF_TEXT, f"{caller.tenant} {caller.subject} {digest}"))
        await self._insert(caller, id_)
        if await self._finished(caller, id_) is None:
            await self.folder.run(self._begin_anew, self._part(caller.tenant, id_), text.encode())
            await self._complete(caller.tenant, id_, None)
        return id_

    async def path(self, caller: Caller, id_: str) -> Path:
        """Return where a whole file of this caller is.

        Raises:
            NotFound: there is none, it is somebody else's, or it is not whole yet.
        """
        if await self._finished(caller, id_) is None:
            raise NotFound("finished upload", id_)
        return self.folder.path(caller.tenant, "uploads", id_)

    async def received(self, id_: str, query: Mapping[str, str]) -> int:
        """Return how many bytes have arrived.

        Raises:
            NotFound: we never made the link.
        """
        tenant = self._links.tenant_of("uploads", id_, query)
        return await self.folder.run(_size, self._part(tenant, id_))

    async def receive(self, id_: str, query: Mapping[str, str], piece: Piece) -> int:
        """Append a piece, and complete the file if it is the last; return the length of the file so far.

        Raises:
            WrongOffset: it does not begin where the last one ended.
            PayloadTooLarge: the file would be larger than it may; what came before is kept.
            InvalidInput: the whole file is not the one that the sender meant; it is deleted.
            Conflict: it is whole already, or another piece is on its way.
        """
        tenant = self._links.tenant_of("uploads", id_, query)
        await self._must_be_open(tenant, id_)
        part = self._part(tenant, id_)
        with await self.folder.run(_locked, part) as file:
            size = await self.folder.run(_at, file, piece.offset)
            async for block in _blocks(piece.body):
                size += len(block)
                if size > self.most_bytes:
                    raise PayloadTooLarge(f"an upload may have {self.most_bytes // 2**20} MB")
                await self.folder.run(_append, file, block)
        if piece.completes:
            await self._complete(tenant, id_, piece.sha256)
        return size

    async def forget(self, due: Due) -> None:
        """Delete an upload whose time is over."""
        await self.folder.remove(due.tenant, "uploads", due.id)
        async with self._database.writing(Caller(due.tenant, due.subject)) as connection:
            await connection.execute("DELETE FROM store.uploads WHERE id = $1", due.id)

    def _part(self, tenant: str, id_: str) -> Path:
        return self.folder.path(tenant, "uploads", f"{id_}.part")

    async def _insert(self, caller: Caller, id_: str) -> None:
        async with self._database.writing(caller) as connection:
            await connection.execute(
                "INSERT INTO store.uploads (tenant, id, subject, expires_at) "
                "VALUES ($1, $2, $3, now() + $4::text::interval) ON CONFLICT DO NOTHING",
                *(caller.tenant, id_, caller.subject, f"{self._life.total_seconds():.0f} seconds"),
            )

    async def _finished(self, caller: Caller, id_: str) -> str | None:
        """Return the digest of a whole file of this caller."""
        async with self._database.writing(caller, keep=False) as connection:
            digest: str | None = await connection.fetchval(
                "SELECT sha256 FROM store.uploads WHERE id = $1 AND subject = $2 AND expires_at > now()",
                *(id_, caller.subject),
            )
        return digest

    async def _must_be_open(self, tenant: str, id_: str) -> None:
        async with self._database.writing(Caller(tenant, "link"), keep=False) as connection:
            row = await connection.fetchrow("SELECT sha256 FROM store.uploads WHERE id = $1", id_)
        if row is None:
            raise NotFound("upload", "behind this link")
        if row["sha256"] is not None:
            raise Conflict("the upload is complete")

    async def _complete(self, tenant: str, id_: str, expected: bytes | None) -> None:
        """Give the file its name once its digest is known, and say so in its row."""
        part, final = self._part(tenant, id_), self.folder.path(tenant, "uploads", id_)
        digest, size = await self.folder.run(_finish, part, final, expected)
        async with self._database.writing(Caller(tenant, "link")) as connection:
            await connection.execute(
                "UPDATE store.uploads SET sha256 = $2, bytes = $3 WHERE id = $1", id_, digest, size
            )

    @staticmethod
    def _begin_anew(part: Path, content: bytes) -> None:
        with full_is_ours(), _locked(part) as file:
            _at(file, 0)
            file.write(content)


async def _blocks(body: AsyncIterable[bytes]) -> AsyncGenerator[bytes]:
    """Yield the body in blocks that are worth a thread."""
    held = bytearray()
    async for chunk in body:
        held += chunk
        if len(held) >= _PIECE_BYTES:
            yield bytes(held)
            held.clear()
    if held:
        yield bytes(held)


def _locked(part: Path) -> BinaryIO:
    """Return the file, open for appending and for nobody else."""
    with full_is_ours():
        part.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = os.fdopen(
            os.open(part, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "r+b", buffering=0
        )
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise Conflict("another piece of this upload is on its way") from None
    return file


def _at(file: BinaryIO, offset: int) -> int:
    """Return the offset when the file ends there; 0 begins anew."""
    if offset == 0:
        file.truncate(0)
    size = os.fstat(file.fileno()).st_size
    if size != offset:
        raise WrongOffset(size)
    return size


def _append(file: BinaryIO, block: bytes) -> None:
    with full_is_ours():
        file.write(block)


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _finish(part: Path, final: Path, expected: bytes | None) -> tuple[str, int]:
    with full_is_ours(), part.open("rb") as file:
        os.fsync(file.fileno())
        digest, size = hashlib.file_digest(file, "sha256"), os.fstat(file.fileno()).st_size
        if expected is not None and digest.digest() != expected:
            part.unlink()
            raise InvalidInput("the file that arrived is not the one that was meant")
        part.rename(final)
        sync_folder(final.parent)
    return digest.hexdigest(), size


def digest_in(header: str | None) -> bytes | None:
    """Return the SHA-256 in a `Repr-Digest` header, such as `sha-256=:base64:`.

    Raises:
        InvalidInput: it is another one.
    """
    if header is None:
        return None
    if not (header.startswith("sha-256=:") and header.endswith(":")):
        raise InvalidInput("repr-digest: sha-256=:base64: expected")
    return base64.b64decode(header[9:-1])
