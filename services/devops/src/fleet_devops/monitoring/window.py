"""When a question is about: moments as callers write them, and ranges as Prometheus evaluates them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from fleet_common.errors import InvalidInput

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_BACK = re.compile(r"-(\d+)([smhdw])")


def moment(text: str, now: datetime) -> datetime:
    """Return the time that `text` names.

    Raises:
        InvalidInput: it names none.
    """
    if text == "now":
        return now
    try:
        if back := _BACK.fullmatch(text):
            return now - timedelta(**{_UNITS[back[2]]: int(back[1])})
        named = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise InvalidInput(f"{text!r} is not a time") from None
    return named if named.tzinfo else named.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Window:
    """A range of time as Prometheus evaluates it: at `start`, then every `step_s` until `end`."""

    start: datetime
    end: datetime
    step_s: int

    @classmethod
    def spanning(cls, start: datetime, end: datetime, max_points: int) -> Window:
        """Return the window from `start` to `end` with the finest whole-second step that fits.

        Raises:
            InvalidInput: it ends before it begins.
        """
        span_s = (end - start).total_seconds()
        if span_s <= 0:
            raise InvalidInput("start must be before end")
        gaps = max_points - 1
        step_s = math.ceil(span_s / gaps) if gaps else math.ceil(span_s) + 1
        return cls(start, end, max(step_s, 1))

    @property
    def points(self) -> int:
        """Return how many points a series without gaps has."""
        return int((self.end - self.start).total_seconds() // self.step_s) + 1
