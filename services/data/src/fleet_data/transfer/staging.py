"""From records as somebody wrote them to rows that can be merged: checked as crm_upsert checks, as CSV for COPY."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from itertools import chain, islice
from typing import Any

from fleet_common.errors import InvalidInput
from fleet_data.crm.models import FieldDef, ObjectDef, Scalar
from fleet_data.crm.values import parse_value
from fleet_data.ids import uuid7
from fleet_data.transfer.models import ImportRequest, Reject
from fleet_data.transfer.reading import Line

MOST_REJECTS = 10_000
_CHUNK_ROWS = 2000


class Stage:
    """The records of one file on their way into a table of staged rows.

    Attributes:
        fields: what the file sets, in the order of the columns.
        rejects: lines that cannot be used.
        rows: lines so far.
    """

    def __init__(self, lines: Iterator[Line], of: ObjectDef, request: ImportRequest) -> None:
        self._of = of
        self._mapping = request.mapping
        held = list(_up_to_first(lines))
        self._lines = chain(held, lines)
        self._ignored: frozenset[str] = frozenset()
        named = self._names(held[-1][1] if held else {})
        if "id" in named.values() and request.match_on != "id":
            raise InvalidInput("a file with an id is matched on it: leave out match_on or the id")
        self._read = [
            (key, of.fields[name], _reader(of.fields[name])) for key, name in named.items()
        ]
        self._known = named.keys() | self._ignored
        self.fields = [_writable(of, n) for n in named.values() if n != "id"]
        if request.match_on not in ("id", *(f.name for f in self.fields)):
            raise InvalidInput(f"the file has no {request.match_on} to match on")
        self.rejects: list[Reject] = []
        self.rows = 0

    def chunk(self) -> bytes:
        """Return the next rows as CSV: line, whether it names an id, the id, the fields; nothing at the end.

        Raises:
            InvalidInput: too many lines cannot be used; the mapping is wrong, rather than they.
        """
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        while not text.tell() and (lines := list(islice(self._lines, _CHUNK_ROWS))):
            self.rows += len(lines)
            rows = (self._checked(line, record) for line, record in lines)
            writer.writerows(row for row in rows if row is not None)
        return text.getvalue().encode()

    def reject(self, line: int, reason: str) -> None:
        """Remember that a line cannot be used.

        Raises:
            InvalidInput: there are too many such lines.
        """
        self.rejects.append(Reject(line, reason))
        if len(self.rejects) > MOST_REJECTS:
            first = min(self.rejects, key=lambda each: each.line)
            raise InvalidInput(
                f"more than {MOST_REJECTS} lines cannot be used; line {first.line}: {first.reason}",
                hint="Is the mapping right?",
            )

    def _checked(self, line: int, record: Mapping[str, Any] | str) -> list[Any] | None:
        if isinstance(record, str):
            self.reject(line, record)
            return None
        try:
            return self._row(line, record)
        except InvalidInput as exc:
            self.reject(line, exc.message)
            return None

    def _row(self, line: int, record: Mapping[str, Any]) -> list[Any]:
        if not record.keys() <= self._known:
            unknown = min(record.keys() - self._known)
            raise InvalidInput(f"{unknown[:60]!r} is in no earlier line: name it in the mapping")
        values = {field.name: read(field, record.get(key)) for key, field, read in self._read}
        id_ = values.pop("id", None)
        own = [values[f.name] for f in self.fields if not f.custom]
        props = {f.name: values[f.name] for f in self.fields if f.custom}
        tail = [json.dumps(props)] if props else []
        return [line, id_ is not None, id_ or uuid7(), *own, *tail]

    def _names(self, first: Mapping[str, Any] | str) -> dict[str, str]:
        """Return name in the file → field, by the first record."""
        found = {} if isinstance(first, str) else first
        if self._mapping is None:
            # What an export adds for information comes back as it went.
            fields = [self._of.field(name) for name in found]
            kept = {f.name: f.name for f in fields if f.writable or f.name == "id"}
            self._ignored = frozenset(found) - kept.keys()
            return kept
        if len(set(self._mapping.values())) != len(self._mapping):
            raise InvalidInput("mapping: two names lead to one field")
        self._ignored = frozenset(found) - self._mapping.keys()
        return {key: self._of.field(name).name for key, name in self._mapping.items()}


def _up_to_first(lines: Iterator[Line]) -> Iterator[Line]:
    """Yield lines up to the first that holds a record."""
    for line in lines:
        yield line
        if not isinstance(line[1], str):
            return


def _writable(of: ObjectDef, name: str) -> FieldDef:
    field = of.usable(name)
    if not field.writable:
        raise InvalidInput(f"{name} cannot be set", hint="Leave it out of the mapping")
    return field


def _reader(field: FieldDef) -> Callable[[FieldDef, Any], Scalar]:
    """Return what reads a value of the field from a file."""
    return _boolean if field.kind == "boolean" else parse_value


def _boolean(field: FieldDef, value: Any) -> Scalar:
    """Read what a file without types writes for true and false as that."""
    if isinstance(value, str):
        value = {"true": True, "false": False}.get(value.strip().lower(), value)
    return parse_value(field, value)
