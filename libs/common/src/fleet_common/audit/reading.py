"""Finding records again: newest first, by what they say. Reading checks no hashes; `verify` does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import Protocol

import anyio.to_thread

from fleet_common.audit.chain import BadRecord, Record, peek_record
from fleet_common.audit.events import Decision, timestamp
from fleet_common.audit.files import lines_backwards, sequence
from fleet_common.audit.sinks import FileSink


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What somebody looks for; None asks for nothing.

    Attributes:
        since: the oldest moment of interest.
        tool: name or glob of the tool, resource or prompt.
    """

    since: datetime | None = None
    tenant: str | None = None
    subject: str | None = None
    tool: str | None = None
    decision: Decision | None = None

    def fits(self, record: Record) -> bool:
        """Return whether an event answers the question."""
        return (
            record["kind"] == "event"
            and self.tenant in (None, record.get("tenant"))
            and self.subject in (None, record.get("subject"))
            and self.decision in (None, record.get("decision"))
            and (self.tool is None or fnmatchcase(str(record.get("target")), self.tool))
        )


def newest_first(path: Path, question: Question) -> Iterator[Record | None]:
    """Yield, for each record of a log from the newest on, the record if it fits and None if it does not.

    The Nones let a caller stop who has looked at enough. It ends at the first record older than `question.since`.
    """
    since = timestamp(question.since) if question.since else ""
    for line in lines_backwards(sequence(path)):
        try:
            record = peek_record(line)
            if str(record["time"]) < since:
                return
            yield record if question.fits(record) else None
        except (BadRecord, KeyError):
            yield None


class Reader(Protocol):
    """Where records are found again.

    Attributes:
        covers: whose records, in words.
    """

    covers: str

    async def find(self, question: Question, *, limit: int, most: int) -> tuple[list[Record], int]:
        """Return the newest records that fit, `limit` at most, and how many of at most `most` were looked at."""


class FileReader:
    """Finds records in the file that this process writes."""

    covers = (
        "this process and those that wrote its file before; other replicas have files of their own"
    )

    def __init__(self, sink: FileSink) -> None:
        self._sink = sink

    async def find(self, question: Question, *, limit: int, most: int) -> tuple[list[Record], int]:
        """Do as `Reader` says."""
        return await anyio.to_thread.run_sync(self._find, question, limit, most)

    def _find(self, question: Question, limit: int, most: int) -> tuple[list[Record], int]:
        found: list[Record] = []
        looked_at = 0
        for record in islice(newest_first(self._sink.path, question), most):
            looked_at += 1
            if record is not None:
                found.append(record)
            if len(found) == limit:
                break
        return found, looked_at
