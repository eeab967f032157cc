"""The order of waiting calls, for any mix of tenants and classes."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from fleet_common.admission.queue import Caller, FairQueue

CALLERS = st.builds(Caller, st.sampled_from("abc"), st.booleans())


def filled(callers: list[Caller], running: Counter[str] | None = None) -> FairQueue[int]:
    queue: FairQueue[int] = FairQueue(running if running is not None else Counter())
    for number, caller in enumerate(callers):
        queue.add(number, caller)
    return queue


def drained(queue: FairQueue[int]) -> list[int]:
    taken = []
    while (found := queue.take()) is not None:
        taken.append(found[0])
    return taken


@given(st.lists(CALLERS, max_size=30))
def test_everybody_is_served_once_and_each_tenant_in_order(callers: list[Caller]) -> None:
    order = drained(filled(callers))

    assert sorted(order) == list(range(len(callers)))
    for caller in set(callers):
        own = [number for number in order if callers[number] == caller]
        assert own == sorted(own)


@given(st.lists(CALLERS, max_size=30))
def test_batch_calls_come_after_all_interactive_ones(callers: list[Caller]) -> None:
    classes = [callers[number].is_batch for number in drained(filled(callers))]

    assert classes == sorted(classes)


@given(st.lists(CALLERS, min_size=1, max_size=30), CALLERS)
def test_what_is_ahead_of_a_newcomer_is_what_is_served_before_it(
    callers: list[Caller], newcomer: Caller
) -> None:
    queue = filled(callers)
    expected = queue.ahead_of(newcomer)
    queue.add(len(callers), newcomer)

    # Whether equals are served before or after the newcomer in the last round is a matter of turns.
    tenants = {caller.tenant for caller in callers}
    assert abs(drained(queue).index(len(callers)) - expected) <= len(tenants)


def test_the_tenant_with_the_fewest_running_calls_is_next() -> None:
    running = Counter({"busy": 3, "idle": 1})
    queue = filled([Caller("busy"), Caller("idle")], running)

    assert queue.take() == (1, Caller("idle"))


def test_equals_take_turns() -> None:
    queue = filled([Caller("a"), Caller("a"), Caller("a"), Caller("b"), Caller("b")])

    assert drained(queue) == [0, 3, 1, 4, 2]


def test_the_newest_of_the_longest_line_makes_room() -> None:
    queue = filled([Caller("flood"), Caller("flood"), Caller("flood"), Caller("b")])

    assert queue.yield_to(Caller("b")) == (2, Caller("flood"))
    assert len(queue) == 3


def test_batch_makes_room_for_interactive_and_never_the_other_way_round() -> None:
    assert filled([Caller("a", is_batch=True)]).yield_to(Caller("a")) is not None
    assert filled([Caller("a"), Caller("a"), Caller("a")]).yield_to(Caller("b", True)) is None


@given(st.lists(CALLERS, min_size=1, max_size=30), CALLERS)
def test_making_room_never_takes_from_who_has_no_more(
    callers: list[Caller], newcomer: Caller
) -> None:
    queue = filled(callers)
    sent_away = queue.yield_to(newcomer)

    if sent_away is not None:
        number, owner = sent_away
        assert callers[number] == owner
        assert len(queue) == len(callers) - 1
        lines = Counter(callers)
        assert owner.is_batch > newcomer.is_batch or lines[owner] > lines[newcomer] + 1


def test_who_has_left_is_not_served() -> None:
    queue = filled([Caller("a"), Caller("a")])

    queue.discard(0, Caller("a"))
    queue.discard(0, Caller("a"))

    assert drained(queue) == [1]
