"""Tickets: who looked at what, for five minutes."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from fleet_common.approvals import Request
from fleet_common.clock import ManualClock
from fleet_common.tasks.caller import TaskCaller
from fleet_common.testing import principal
from fleet_gateway.approvals.tickets import Tickets

BOSS = principal("approver", subject="key:boss")
REQUEST = Request("id1", "n1", "demo", "key:1", "t", ("x",), False, datetime.now(UTC))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_800_000_000)


def test_a_ticket_says_who_looked_at_what(clock: ManualClock) -> None:
    tickets = Tickets(b"k" * 32, now=clock)
    seen = TaskCaller(BOSS, clock())
    assert tickets.read(tickets.issue(BOSS, REQUEST), "id1") == (seen, "n1")
    assert tickets.read(tickets.issue(BOSS, REQUEST), "id2") is None


def test_a_ticket_ends_after_five_minutes(clock: ManualClock) -> None:
    tickets = Tickets(b"k" * 32, now=clock)
    ticket = tickets.issue(BOSS, REQUEST)
    clock.advance(300)
    assert tickets.read(ticket, "id1") is None


def test_a_ticket_of_another_key_or_with_another_name_is_nothing(clock: ManualClock) -> None:
    ours, theirs = Tickets(b"k" * 32, now=clock), Tickets(b"x" * 32, now=clock)
    assert ours.read(theirs.issue(BOSS, REQUEST), "id1") is None
    head, mac = ours.issue(BOSS, REQUEST).split(".")
    other = ours.issue(principal("approver", subject="key:other"), REQUEST).split(".")[0]
    assert ours.read(f"{other}.{mac}", "id1") is None
    assert ours.read(f"{head}.{mac}", "id1") is not None
