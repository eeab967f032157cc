"""Nouns of due work."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal
from uuid import UUID, uuid4

Kind = Literal["campaign", "workflow", "sync", "sync_inbox", "replies"]


@dataclass(frozen=True, slots=True)
class Job:
    """Something of a tenant that is due."""

    tenant: str
    kind: Kind
    id: UUID


class Lease:
    """The right to work on a job for now; what is claimed under it is signed with its id."""

    def __init__(self) -> None:
        self.id: UUID = uuid4()
        self._over = asyncio.Event()

    @property
    def is_over(self) -> bool:
        """Return whether to stop soon: the process ends, or another worker has the job."""
        return self._over.is_set()

    def end(self) -> None:
        """Ask whoever works under it to stop."""
        self._over.set()

    async def sleep(self, seconds: float) -> None:
        """Wait, but not for longer than the lease."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._over.wait()


Handler = Callable[[Job, Lease], Awaitable[float | None]]
"""Works on a job under a lease.

Returns the seconds until the job is due again, or None when nothing is left to do. It may be cancelled anywhere and
begun again by another worker.
"""
