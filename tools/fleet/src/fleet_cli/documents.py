"""Indexing the project's own documents, so that `rag_search` has something to find from the first minute.

Only when README.md or docs/ changed since the last time: the digest of all of them is kept. Unchanged documents cost
nothing even then, because the service skips them.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fleet_cli.errors import CallFailed
from fleet_cli.state import State

STAMPS = "stamps.json"
# rag_ingest takes 64 documents and 2 MB at once; smaller calls let the progress move.
_BATCH = 8
_BATCH_BYTES = 500_000
_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Documents:
    """The documents of a project, by path relative to it."""

    project: Path
    paths: Sequence[Path]

    @classmethod
    def of(cls, project: Path) -> Documents:
        """Return README.md and everything under docs/, the short ones first: most can soon be found."""
        found = [project / "README.md", *sorted((project / "docs").rglob("*.md"), key=_size)]
        return cls(project, [path for path in found if _size(path)])

    def digest(self, store: Path) -> str:
        """Return what changes when a document does, or when the vector store was made anew."""
        digest = hashlib.sha256()
        digest.update(str(store.stat().st_ino if store.exists() else 0).encode())
        for path in self.paths:
            digest.update(f"{path.relative_to(self.project)}\0".encode())
            digest.update(path.read_bytes())
        return digest.hexdigest()

    def batches(self) -> Iterator[list[dict[str, str]]]:
        """Yield arguments for rag_ingest, a few documents at a time."""
        batch: list[dict[str, str]] = []
        size = 0
        for path in self.paths:
            text = path.read_text("utf-8", "replace")
            if batch and (len(batch) == _BATCH or size + len(text) > _BATCH_BYTES):
                yield batch
                batch, size = [], 0
            uri = path.relative_to(self.project).as_posix()
            batch.append({"uri": uri, "title": title_of(text) or uri, "text": text})
            size += len(text)
        if batch:
            yield batch


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def title_of(text: str) -> str | None:
    """Return the first heading of a Markdown text."""
    for line in text.splitlines():
        if line.startswith("# "):
            return line[2:].strip()
    return None


def index_documents(
    state: State, url: str, key: str, *, progressed: Callable[[str], None]
) -> int | None:
    """Index what changed; return the number of documents, or None when nothing had.

    Raises:
        CallFailed: the aiml service refused or could not be reached.
    """
    documents, store = Documents.of(state.project), state.path / "vectors"
    stamps = state.read(STAMPS)
    if not documents.paths or stamps.get("documents") == documents.digest(store):
        return None
    asyncio.run(_ingest(documents, url, key, progressed))
    state.write(STAMPS, {**stamps, "documents": documents.digest(store)})
    return len(documents.paths)


async def _ingest(
    documents: Documents, url: str, key: str, progressed: Callable[[str], None]
) -> None:
    # Costs over a second of import, needed only when a document changed.
    from fleet_cli.calling import call_tool, text_of  # noqa: PLC0415

    done = 0
    for batch in documents.batches():
        progressed(f"{done} of {len(documents.paths)} documents")
        result = await call_tool(url, key, "rag_ingest", {"documents": batch}, timeout_s=_TIMEOUT_S)
        if result.is_error:
            raise CallFailed(text_of(result))
        done += len(batch)
