"""Finding records again: newest first, by what they say. Reading checks no hashes; `verify` does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path

from fleet_common.audit.chain import BadRecord, Record, peek_record
from fleet_common.audit.events import Decision, timestamp
from fleet_common.audit.files import lines_backwards, sequence


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
