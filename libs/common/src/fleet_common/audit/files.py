"""The files of a log: `data.jsonl` is written, `data.jsonl.000001` and so on are full and put aside, oldest first."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from fleet_common.audit.verify import Line

_BLOCK_BYTES = 64 * 1024


def rotated_files(path: Path) -> list[Path]:
    """Return what was put aside from `path`, oldest first."""
    found = path.parent.glob(f"{path.name}.[0-9][0-9][0-9][0-9][0-9][0-9]*")
    return sorted(found, key=lambda each: int(each.suffix[1:]))


def sequence(path: Path) -> list[Path]:
    """Return the files of one chain of chains, oldest first; `path` itself comes last."""
    return [*rotated_files(path), *([path] if path.exists() else [])]


def siblings(path: Path) -> list[Path]:
    """Return the files that processes with this setting write: `data.jsonl`, `data-2.jsonl` and so on."""
    others = path.parent.glob(f"{path.stem}-[0-9]*{path.suffix}")
    return [*([path] if path.exists() else []), *sorted(others)]


def logs_in(folder: Path) -> list[Path]:
    """Return the logs of a folder, those included whose newest file is gone."""
    names = {re.sub(r"\.\d{6,}$", "", each.name) for each in folder.glob("*.jsonl*")}
    return [folder / name for name in sorted(names) if name.endswith(".jsonl")]


def lines_of(paths: list[Path]) -> Iterator[Line]:
    """Yield every line of the files, with where it stands."""
    for path in paths:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                yield f"{path.name}:{number}", line


def lines_backwards(paths: list[Path]) -> Iterator[bytes]:
    """Yield every line of the files, the newest first; a half-written one at the very end is left out."""
    for path in reversed(paths):
        rest = b""
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            while end:
                start = max(0, end - _BLOCK_BYTES)
                file.seek(start)
                first, *lines = (file.read(end - start) + rest).split(b"\n")
                # What follows the last newline is no line, and what precedes the first one may be half a line.
                yield from (line + b"\n" for line in reversed(lines[:-1]))
                rest, end = (first + b"\n" if lines else first), start
        if rest.endswith(b"\n"):
            yield rest
