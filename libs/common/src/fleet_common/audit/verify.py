"""Reads a chain from its beginning and stops at the first record that is not as it was written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from fleet_common.audit.chain import GENESIS, BadRecord, Record, peek_record, read_record

Line = tuple[str, bytes]
"""Where a line stands, for people, and the line with its newline."""


@dataclass(slots=True)
class Verdict:
    """What a check found.

    Attributes:
        records: how many records are as they were written, from the beginning on.
        chains: how many processes wrote them.
        gaps: sentences about what may be missing without a trace of whose doing: a crash looks like a cut-off end.
        problem: where and what the first bad record is; None when there is none.
        bad_line: that record as it stands there; empty when it is missing.
    """

    records: int = 0
    chains: int = 0
    gaps: list[str] = field(default_factory=list)
    problem: str | None = None
    bad_line: bytes = b""

    @property
    def ok(self) -> bool:
        """Whether every record is as it was written and follows the one before."""
        return self.problem is None


def verify(
    lines: Iterable[Line],
    *,
    key: bytes | None = None,
    partial: bool = False,
    anchors: Iterable[str] = (),
) -> Verdict:
    """Check records in the order in which they were written.

    Args:
        lines: all files of one sink, oldest first.
        key: the audit key; needed for keyed chains, and then plain ones are refused.
        partial: accept a beginning in the middle, because older files were archived.
        anchors: hashes that must be there, as the service's log named them (`audit_anchored`).
    """
    walk = _Walk(key, partial=partial)
    sought = set(anchors)
    for where, line in lines:
        try:
            sought.discard(walk.step(where, line) or "")
        except BadRecord as bad:
            walk.verdict.problem = f"{where}: the record {bad}"
            walk.verdict.bad_line = line
            return walk.verdict
    walk.end()
    if sought:
        walk.verdict.problem = f"the record {min(sought)} is missing: the end was cut off"
    return walk.verdict


class _Walk:
    def __init__(self, key: bytes | None, *, partial: bool) -> None:
        self.verdict = Verdict()
        self._key = key
        self._partial = partial
        self._last: Record | None = None
        self._torn: str | None = None
        self._kind: str | None = None

    def step(self, where: str, line: bytes) -> str | None:
        """Check the next line and return its hash; None for what may be the half-written end."""
        if self._torn is not None:
            raise BadRecord(f"follows {self._torn}, which is not a whole record")
        if not line.endswith(b"\n"):
            self._torn = where
            return None
        record = self._read(line)
        self._check_link(record)
        if record["kind"] == "start":
            self.verdict.chains += 1
            self._admit_cut(record)
        elif record["kind"] == "lost":
            self.verdict.gaps.append(
                f"{_name(record)} could not keep {record.get('count')} events before record {record['seq']}"
            )
        self.verdict.records += 1
        self._last = record
        return str(record["hash"])

    def end(self) -> None:
        if self._torn is not None:
            self.verdict.gaps.append(
                f"{self._torn} ends in the middle of a record: "
                "it is being written, its writer was killed, or its end was cut off"
            )
        elif self._last is not None:
            self._check_closed(self._last)

    def _read(self, line: bytes) -> Record:
        if self._key is None and peek_record(line).get("keyed") is True:
            raise BadRecord("is keyed: checking it needs the audit key")
        record = read_record(line, self._key)
        texts = (record.get(name) for name in ("kind", "chain", "prev"))
        if not isinstance(record.get("seq"), int) or not all(isinstance(t, str) for t in texts):
            raise BadRecord("lacks what every record has")
        return record

    def _check_link(self, record: Record) -> None:
        last = self._last
        if record["kind"] == "start":
            self._check_start(record)
        elif last is None:
            if not self._partial:
                raise BadRecord(f"is number {record['seq']}: what came before it is missing")
            self.verdict.chains += 1
        elif last["kind"] == "stop":
            raise BadRecord("follows the closing record of its chain")
        elif (record["chain"], record["seq"], record["prev"]) != _expected(last):
            raise BadRecord(_misplaced(record, last))

    def _check_start(self, record: Record) -> None:
        last = self._last
        if self._last is not None:
            self._check_closed(self._last)
        if record["seq"] != 0:
            raise BadRecord("is a header in the wrong place")
        kind = str(record.get("sink"))
        if kind != (self._kind or kind):
            raise BadRecord(f"starts a chain that was written to {kind}, among others")
        self._kind = kind
        # Only files are continued: of what went to a stream or a database, each process is on its own.
        continued = last is not None and kind == "file"
        expected = last["hash"] if last is not None and continued else GENESIS
        if record["prev"] != expected and not (last is None and self._partial):
            raise BadRecord("starts a chain that does not continue the one before it")

    def _check_closed(self, last: Record) -> None:
        if last["kind"] != "stop":
            self.verdict.gaps.append(
                f"{_name(last)} has no closing record after number {last['seq']}: "
                "it still runs, was killed, or its end was cut off"
            )

    def _admit_cut(self, record: Record) -> None:
        if record.get("cut_bytes"):
            self.verdict.gaps.append(
                f"{_name(record)} found {record['cut_bytes']} bytes of a half-written record and removed them"
            )


def _expected(last: Record) -> tuple[Any, Any, Any]:
    return last["chain"], last["seq"] + 1, last["hash"]


def _misplaced(record: Record, last: Record) -> str:
    if record["chain"] != last["chain"]:
        return f"belongs to another chain, {_name(record)}"
    if record["seq"] == last["seq"] + 1:
        return "does not continue the record before it"
    return f"is number {record['seq']} where {last['seq'] + 1} should follow"


def _name(record: Record) -> str:
    return f"chain {record['chain']} ({record.get('service')}, {record.get('instance')})"
