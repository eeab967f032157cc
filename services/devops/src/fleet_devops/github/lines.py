"""A range of a file's lines that fits the budget of one result."""

from __future__ import annotations

from dataclasses import dataclass

from fleet_common.errors import InvalidInput
from fleet_devops.text import clip


@dataclass(frozen=True, slots=True)
class LineRange:
    """Lines of a file, counted from 1 as editors and git do.

    Attributes:
        end: last line in `text`; 0 for an empty file.
        next_start: where to read on when the budget cut the range short.
    """

    text: str
    start: int
    end: int
    total: int
    next_start: int | None
    line_cut: bool

    @property
    def truncated(self) -> bool:
        """Tell whether less came back than was asked for."""
        return self.next_start is not None or self.line_cut


def cut_lines(text: str, start: int, end: int | None, *, budget: int) -> LineRange:
    """Return lines `start` to `end` of `text`, as many whole ones as fit into `budget` characters.

    A first line that is longer than the budget is cut, so that every call makes progress.

    Raises:
        InvalidInput: the range is empty or begins past the last line.
    """
    lines = text.removesuffix("\n").split("\n") if text else []
    last = min(end or len(lines), len(lines))
    if lines and not start <= last:
        raise InvalidInput(
            f"no line from {start} to {end or 'the end'}: the file has {len(lines)} lines"
        )
    taken = _fitting(lines[start - 1 : last], budget)
    stop = start - 1 + len(taken)
    return LineRange(
        text="\n".join(taken),
        start=start,
        end=stop if lines else 0,
        total=len(lines),
        next_start=stop + 1 if stop < last else None,
        line_cut=bool(taken) and len(lines[start - 1]) > budget,
    )


def _fitting(lines: list[str], budget: int) -> list[str]:
    taken: list[str] = []
    for line in lines:
        budget -= len(line) + 1
        if budget < 0:
            return taken or [clip(line, budget + len(line) + 1)]
        taken.append(line)
    return taken
