"""Which jobs make a batch."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from fleet_aiml.embedding.batches import BatchLimits, Lane, TurnTaker, cut

LIMITS = BatchLimits(max_tokens=64, max_items=8, max_padding=0.2)


@dataclass(frozen=True, eq=False)
class Waiting:
    cost: int
    lane: Lane = "interactive"


jobs = st.lists(st.integers(1, 80).map(Waiting), min_size=1, max_size=40)
lanes = st.sampled_from(("interactive", "ingest"))
mixed = st.lists(st.builds(Waiting, st.integers(1, 80), lanes), min_size=1, max_size=40)


@given(jobs)
def test_the_oldest_job_is_always_in_the_next_batch(waiting: list[Waiting]) -> None:
    assert cut(waiting, LIMITS)[0] is waiting[0]


@given(jobs)
def test_a_batch_stays_within_its_limits(waiting: list[Waiting]) -> None:
    batch = cut(waiting, LIMITS)
    area = max(job.cost for job in batch) * len(batch)
    assert len(batch) == 1 or area <= LIMITS.max_tokens
    assert len(batch) <= LIMITS.max_items
    assert sum(job.cost for job in batch) >= area * (1 - LIMITS.max_padding) - 1e-9


@given(mixed)
def test_repeated_batches_run_every_job_once(waiting: list[Waiting]) -> None:
    turns, left, done = TurnTaker(LIMITS), list(waiting), []
    while left:
        batch = turns.next_batch(left)
        left = [job for job in left if job not in batch]
        done += batch
    assert len(done) == len(waiting)


@given(mixed)
def test_a_batch_holds_one_lane(waiting: list[Waiting]) -> None:
    assert len({job.lane for job in TurnTaker(LIMITS).next_batch(waiting)}) == 1


def test_texts_of_similar_length_run_together() -> None:
    waiting = [Waiting(10), Waiting(50), Waiting(11), Waiting(9), Waiting(3)]
    assert sorted(job.cost for job in cut(waiting, LIMITS)) == [9, 10, 11]


def test_waiting_ingest_gets_one_batch_in_five() -> None:
    turns = TurnTaker(LIMITS)
    waiting = [Waiting(60, "ingest"), *(Waiting(60) for _ in range(9))]
    lanes = []
    for _ in range(10):
        batch = turns.next_batch(waiting)
        lanes.append(batch[0].lane)
        if batch[0].lane == "interactive":
            waiting.remove(batch[0])
    assert [place for place, lane in enumerate(lanes) if lane == "ingest"] == [4, 9]


def test_ingest_alone_does_not_wait_for_its_turn() -> None:
    assert TurnTaker(LIMITS).next_batch([Waiting(5, "ingest")])[0].lane == "ingest"
