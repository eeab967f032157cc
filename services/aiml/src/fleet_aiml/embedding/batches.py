"""Which waiting jobs go into the next forward pass: pure rules, no threads and no clock.

A forward pass costs what its padded rectangle holds: (longest text) x (number of texts). So a batch is
cut by that product, and made of texts of similar length. The oldest job of its lane is always in it: a
long text is never passed over by a stream of short ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

Lane = Literal["interactive", "ingest"]


class Candidate(Protocol):
    """A job that waits, with the length of its input known."""

    @property
    def lane(self) -> Lane:
        """Who waits for it: a person, or a bulk load."""
        ...

    @property
    def cost(self) -> int:
        """Length of the input in tokens."""
        ...


CandidateT = TypeVar("CandidateT", bound=Candidate)


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """Size of one forward pass.

    Attributes:
        max_tokens: largest padded rectangle; a single longer input still runs, alone.
        max_items: most inputs.
        max_padding: largest share of the rectangle that may be padding; a padded token costs what a real one does.
        interactive_turns: batches of the interactive lane between two of a waiting ingest lane.
    """

    max_tokens: int = 512
    max_items: int = 32
    max_padding: float = 0.2
    interactive_turns: int = 4


class TurnTaker:
    """Shares the model between the lanes: interactive first, but ingest gets one turn in five."""

    def __init__(self, limits: BatchLimits) -> None:
        self._limits = limits
        self._since_ingest = 0

    def next_batch(self, waiting: Sequence[CandidateT]) -> list[CandidateT]:
        """Return the jobs to run next; `waiting` is in order of arrival and not empty."""
        lane = self._choose(waiting)
        return cut([job for job in waiting if job.lane == lane], self._limits)

    def _choose(self, waiting: Sequence[Candidate]) -> Lane:
        lanes = {job.lane for job in waiting}
        is_ingest_due = "ingest" in lanes and self._since_ingest >= self._limits.interactive_turns
        if "interactive" in lanes and not is_ingest_due:
            self._since_ingest += "ingest" in lanes
            return "interactive"
        self._since_ingest = 0
        return "ingest"


def cut(waiting: Sequence[CandidateT], limits: BatchLimits) -> list[CandidateT]:
    """Return the oldest job (the first) and those nearest to it in length, as far as the limits allow."""
    oldest, *others = waiting
    batch, longest, total = [oldest], oldest.cost, oldest.cost
    for job in sorted(others, key=lambda job: abs(job.cost - oldest.cost)):
        if len(batch) == limits.max_items:
            break
        width = max(longest, job.cost)
        area = width * (len(batch) + 1)
        is_wasteful = total + job.cost < area * (1 - limits.max_padding)
        if area > limits.max_tokens or is_wasteful:
            continue
        batch.append(job)
        longest, total = width, total + job.cost
    return batch
