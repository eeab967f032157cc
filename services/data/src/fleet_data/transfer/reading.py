"""Reading a file that somebody sent: records one after the other, each with its line, in bounded memory."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any

from fleet_common.errors import InvalidInput, NotConfigured
from fleet_data.transfer.models import Format

_LINE_CHARS = 1024 * 1024
_BATCH_ROWS = 1000

# What is wrong with a line stands in the place of its record.
Line = tuple[int, "Mapping[str, Any] | str"]


def read_records(path: Path, format_: Format) -> Iterator[Line]:
    """Yield (line, record) of a file; a line that holds none comes with the reason instead.

    Raises:
        InvalidInput: the file is not of this format.
        NotConfigured: the format needs the extra `parquet`, which is not installed.
    """
    read = {"csv": _from_csv, "jsonl": _from_json_lines, "parquet": _from_parquet}[format_]
    try:
        yield from read(path)
    except (csv.Error, UnicodeDecodeError) as exc:
        raise InvalidInput(f"the file is not {format_} in UTF-8") from exc


def _from_csv(path: Path) -> Iterator[Line]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file, strict=True)
        names = next(rows, [])
        if len(set(names)) != len(names):
            raise InvalidInput("two columns of the file have one name")
        line = rows.line_num + 1
        for row in rows:
            if row:  # an empty line is none
                yield line, _record(names, row)
            line = rows.line_num + 1


def _record(names: list[str], row: list[str]) -> Mapping[str, Any] | str:
    if len(row) != len(names):
        return f"{len(row)} values where the header has {len(names)}"
    return dict(zip(names, row, strict=True))


def _from_json_lines(path: Path) -> Iterator[Line]:
    with path.open(encoding="utf-8-sig") as file:
        number = 0
        while text := file.readline(_LINE_CHARS):
            number += 1
            if len(text) == _LINE_CHARS:
                raise InvalidInput(f"line {number} is longer than {_LINE_CHARS} characters")
            if text.strip():
                yield number, _object(text)


def _object(text: str) -> Mapping[str, Any] | str:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return "not JSON"
    return found if isinstance(found, dict) else "not a JSON object"


def _from_parquet(path: Path) -> Iterator[Line]:
    try:
        from fleet_data.transfer.arrow import parquet_rows  # noqa: PLC0415 - 40 MB of memory
    except ModuleNotFoundError:
        raise NotConfigured("Parquet needs the extra `parquet` of fleet-data") from None
    for number, row in enumerate(parquet_rows(path, _BATCH_ROWS), start=1):
        yield number, {name: _plain(value) for name, value in row.items()}


def _plain(value: Any) -> Any:
    """Return a typed value as JSON would have it."""
    return value.isoformat() if isinstance(value, date | datetime) else value
