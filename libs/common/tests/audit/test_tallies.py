from __future__ import annotations

from collections.abc import Callable

from fleet_common.audit import AuditEvent
from fleet_common.audit.tallies import Tallies
from fleet_common.testing import wait_until

MakeEvent = Callable[..., AuditEvent]


async def test_alike_ones_become_one_record_with_a_count(event: MakeEvent) -> None:
    recorded: list[AuditEvent] = []
    tallies = Tallies(recorded.append, window_s=60, most=10)
    for _ in range(500):
        tallies.add("a", lambda: event("a"))
    tallies.add("b", lambda: event("b"))
    tallies.flush()
    assert [(each.target, each.count) for each in recorded] == [("a", 500), ("b", 1)]
    assert [each.facts().get("count") for each in recorded] == [500, None]


async def test_only_the_first_is_made(event: MakeEvent) -> None:
    made = []

    def make() -> AuditEvent:
        made.append(1)
        return event()

    tallies = Tallies(lambda _: None, window_s=60, most=10)
    for _ in range(5):
        tallies.add("a", make)
    assert len(made) == 1


async def test_a_moment_later_they_are_recorded(event: MakeEvent) -> None:
    recorded: list[AuditEvent] = []
    tallies = Tallies(recorded.append, window_s=0.02, most=10)
    for moment in (1, 2):
        tallies.add("a", event)

        async def is_recorded(so_far: int = moment) -> bool:
            return len(recorded) == so_far

        await wait_until(is_recorded)


async def test_different_ones_take_no_more_memory_than_agreed(event: MakeEvent) -> None:
    recorded: list[AuditEvent] = []
    tallies = Tallies(recorded.append, window_s=60, most=10)
    for number in range(35):
        tallies.add(number, event)
    assert len(recorded) == 30
    tallies.flush()
    assert len(recorded) == 35
