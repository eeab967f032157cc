"""Questions to Prometheus, bounded in points and series."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from fleet_common.errors import InvalidInput
from fleet_common.policy import Grant
from fleet_devops.errors import NoMonitoring
from fleet_devops.monitoring.models import Answer, Reduction, Series
from fleet_devops.monitoring.window import Window, moment
from fleet_devops.reach import Reach

MAX_VALUES = 4_000  # about 24 KB as text


class Metrics(Protocol):
    """What this service needs of a client."""

    async def instant(self, promql: str, at: datetime) -> Answer:
        """Return the value of every series at one moment."""
        ...

    async def over(self, promql: str, window: Window) -> Answer:
        """Return the values of every series over a window."""
        ...


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: at one moment, or over a range when `start` is there."""

    promql: str
    at: str | None = None
    start: str | None = None
    end: str | None = None
    max_points: int = 60
    max_series: int = 20
    reduce: Sequence[Reduction] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """The answer, cut to the question's bounds: the series with the highest last value first.

    Attributes:
        window: the range, when it was one.
        common: labels that every series has with the same value.
        total: how many series there were.
        cardinality: distinct values by label, most first, when series were left out.
    """

    series: Sequence[Series]
    window: Window | None
    common: dict[str, str]
    total: int
    cardinality: dict[str, int]
    warnings: Sequence[str]


class Monitoring:
    """Asks Prometheus for a caller.

    Args:
        metrics: Prometheus, or None when the operator has named none.
        reach: whether a caller may ask for metrics.
        now: the clock that relative times count from.
    """

    def __init__(
        self,
        metrics: Metrics | None,
        reach: Reach,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._metrics = metrics
        self._reach = reach
        self._now = now

    async def query(self, grant: Grant, question: Question) -> Found:
        """Return what a question finds.

        Raises:
            NoMonitoring: there is no Prometheus to ask.
            InvalidInput: the times contradict each other, or the answer would be too long.
        """
        self._reach.metrics(grant)
        if self._metrics is None:
            raise NoMonitoring
        if question.start is None:
            _require_instant(question)
            at = moment(question.at or "now", self._now())
            return _bounded(await self._metrics.instant(question.promql, at), question, None)
        window = self._window(question, question.start)
        return _bounded(await self._metrics.over(question.promql, window), question, window)

    def _window(self, question: Question, start: str) -> Window:
        if question.at is not None:
            raise InvalidInput("at is one moment and start a range: give one of them")
        if not question.reduce and question.max_points * question.max_series > MAX_VALUES:
            raise InvalidInput(
                f"max_points times max_series is over {MAX_VALUES}", hint="Lower one, or use reduce"
            )
        now = self._now()
        return Window.spanning(
            moment(start, now), moment(question.end or "now", now), question.max_points
        )


def _require_instant(question: Question) -> None:
    if question.end is not None:
        raise InvalidInput("end needs start")
    if question.reduce:
        raise InvalidInput("reduce needs a range: give start")


def _bounded(answer: Answer, question: Question, window: Window | None) -> Found:
    ranked = sorted(answer.series, key=_rank)
    kept = ranked[: question.max_series]
    over = len(ranked) > len(kept)
    return Found(
        series=kept,
        window=window,
        common=_common(kept),
        total=len(ranked),
        cardinality=_cardinality(ranked) if over else {},
        warnings=answer.warnings,
    )


def _rank(series: Series) -> tuple[bool, float, list[tuple[str, str]]]:
    """Return the sort key: highest last value first, NaN last, then by labels so that order is stable."""
    last = series.last
    return math.isnan(last), -last if not math.isnan(last) else 0.0, sorted(series.labels.items())


def _common(series: Sequence[Series]) -> dict[str, str]:
    if len(series) < 2:
        return {}
    shared = set(series[0].labels.items())
    for other in series[1:]:
        shared &= set(other.labels.items())
    return dict(sorted(shared))


def _cardinality(series: Sequence[Series]) -> dict[str, int]:
    values = {(name, value) for one in series for name, value in one.labels.items()}
    return dict(Counter(name for name, _ in values).most_common(8))
