"""The files of a log: `data.jsonl` is written, `data.jsonl.000001` and so on are full and put aside, oldest first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fleet_common.audit.verify import Line


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


def lines_of(paths: list[Path]) -> Iterator[Line]:
    """Yield every line of the files, with where it stands."""
    for path in paths:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                yield f"{path.name}:{number}", line
