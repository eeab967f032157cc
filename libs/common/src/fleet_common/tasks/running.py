"""The task that the current code runs in, if any."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from fleet_common.approvals import Plan


@dataclass(frozen=True, slots=True)
class RunningTask:
    """A task as a worker runs it.

    Attributes:
        id: the id that its owner polls, such as `data.Zk3…`.
        timeout_s: what it may take in all, in place of the tool's own limit for a call.
        plan: what was approved when the task was made; None when that needed no approval.
    """

    id: str
    timeout_s: float
    plan: Plan | None = None


_running: ContextVar[RunningTask | None] = ContextVar("fleet_running_task", default=None)


def running_task() -> RunningTask | None:
    """Return the task that this call is run for; None for a call that somebody waits for."""
    return _running.get()


@contextmanager
def running(task: RunningTask) -> Iterator[None]:
    """Make `task` what `running_task` returns while the block runs."""
    reset = _running.set(task)
    try:
        yield
    finally:
        _running.reset(reset)
