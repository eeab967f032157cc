from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

from fleet_common.audit import AuditEvent


def test_what_is_unknown_is_left_out(event: Callable[..., AuditEvent]) -> None:
    facts = event(subject=None, tenant=None).facts()
    assert set(facts) == {"time", "action", "target", "decision", "outcome"}


def test_a_name_that_a_caller_chose_is_cut(event: Callable[..., AuditEvent]) -> None:
    assert len(event("x" * 10_000).facts()["target"]) == 256


def test_times_are_utc_and_sort_as_text(event: Callable[..., AuditEvent]) -> None:
    moment = datetime(2026, 1, 1, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    assert event(time=moment).facts()["time"] == "2025-12-31T23:30:00.000000Z"
    assert event(time=datetime(2026, 1, 1, tzinfo=UTC)).facts()["time"] > "2025-12-31T23:30"
