"""How much work is due, for those who scale the workers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Protocol, get_args

import anyio.from_thread

from fleet_common.errors import FleetError
from fleet_common.metrics import Metrics
from fleet_data.jobs.models import Kind


class Counted(Protocol):
    """Where the jobs are."""

    async def pending(self) -> Mapping[str, int]:
        """Return how many are due, by kind."""


class JobDepth:
    """Reads how many jobs are due at each scrape."""

    def __init__(self, jobs: Counted) -> None:
        self._jobs = jobs

    def export(self, metrics: Metrics, kinds: Sequence[str] = get_args(Kind)) -> None:
        """Add `data_jobs_pending{kind}`; it is NaN while the database is away."""
        for kind in kinds:
            metrics.gauge_at_scrape(
                "data_jobs_pending",
                "Jobs that are due, those that are worked on included.",
                partial(self._read, kind),
                {"kind": kind},
            )

    def _read(self, kind: str) -> float:
        try:
            # A scrape is rendered in a worker thread of the loop that owns the pools.
            pending: Mapping[str, int] = anyio.from_thread.run(self._jobs.pending)
        except FleetError:
            return math.nan
        return float(pending.get(kind, 0))
