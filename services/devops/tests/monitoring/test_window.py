from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_common.errors import InvalidInput
from fleet_devops.monitoring.window import Window, moment

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("now", NOW),
        ("-15m", NOW - timedelta(minutes=15)),
        ("-7d", NOW - timedelta(days=7)),
        ("2026-01-01", datetime(2026, 1, 1, tzinfo=UTC)),
        ("2026-01-01T10:00:00", datetime(2026, 1, 1, 10, tzinfo=UTC)),
        ("2026-01-01T10:00:00Z", datetime(2026, 1, 1, 10, tzinfo=UTC)),
        ("2026-01-01T10:00:00+02:00", datetime(2026, 1, 1, 8, tzinfo=UTC)),
    ],
)
def test_moments_are_absolute_or_back_from_now(text: str, at: datetime) -> None:
    assert moment(text, NOW) == at


@pytest.mark.parametrize("text", ["2026-13-01", "yesterday", "-1y", ""])
def test_what_is_not_a_time_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="is not a time"):
        moment(text, NOW)


def test_a_time_before_the_calendar_is_refused() -> None:
    with pytest.raises(InvalidInput):
        moment("-999999w", NOW)


@given(st.integers(1, 10_000_000), st.integers(1, 500))
def test_a_window_never_has_more_points_than_asked(span_s: int, max_points: int) -> None:
    window = Window.spanning(NOW - timedelta(seconds=span_s), NOW, max_points)

    assert 1 <= window.points <= max_points
    assert window.step_s >= 1


def test_a_window_uses_the_points_it_may_have() -> None:
    assert Window.spanning(NOW - timedelta(minutes=59), NOW, 60).points == 60


def test_a_window_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(InvalidInput, match="start must be before end"):
        Window.spanning(NOW, NOW, 60)
