"""What exports and imports have in common: a job is asked for, watched, cancelled, and its file fetched by link."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from fleet_common.deadline import remaining
from fleet_common.errors import NotConfigured, NotFound
from fleet_data.claims import Caller
from fleet_data.transfer.errors import LinkGone
from fleet_data.transfer.folder import Folder, Place
from fleet_data.transfer.links import Links
from fleet_data.transfer.models import Job
from fleet_data.transfer.repository import Jobs

_WAIT_S = 3600.0  # a task waits as long as it may; a call has less
_MARGIN_S = 1.0  # what the answer itself takes
_POLL_S = (0.05, 1.0)

Report = Callable[[Job], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Bounds:
    """How large a file may be, how long it is kept, and how long a link to it works."""

    rows: int
    bytes: int
    life: timedelta
    link: timedelta


class Desk:
    """The jobs of one kind, and the files they leave; `wake` tells the worker of this process of a new one."""

    def __init__(
        self, jobs: Jobs, place: Place, folder: Folder | None, links: Links, bounds: Bounds
    ) -> None:
        self.jobs = jobs
        self.bounds = bounds
        self.wake: Callable[[], None] = lambda: None
        self._place: Place = place
        self._folder = folder
        self._links = links

    @property
    def folder(self) -> Folder:
        """Return the folder.

        Raises:
            NotConfigured: there is none.
        """
        if self._folder is None:
            raise NotConfigured(
                "this service has no folder for files", hint="An operator sets FLEET_DATA_FILES_DIR"
            )
        return self._folder

    async def take(self, caller: Caller, request: Mapping[str, Any], *, key: str | None) -> Job:
        """Return a new job, or the one that `key` named before.

        Raises:
            KeyReused: the key named another request.
        """
        job = await self.jobs.create(caller, request, key=key, life=self.bounds.life)
        self.wake()
        return job

    async def watch(self, caller: Caller, job: Job, report: Report) -> Job:
        """Return the job when it has ended, or as far as it is when the time of the call is nearly over."""
        pause_s = _POLL_S[0]
        while not job.has_ended and remaining(_WAIT_S) > _MARGIN_S + pause_s:
            await report(job)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.5, _POLL_S[1])
            job = await self.status(caller, UUID(job.id))
        return job

    async def status(self, caller: Caller, id_: UUID) -> Job:
        """Return a job of this caller.

        Raises:
            NotFound: there is none, or it is somebody else's.
        """
        job = await self.jobs.get(caller, str(id_))
        if job is None:
            raise NotFound("job", id_)
        return job

    async def cancel(self, caller: Caller, id_: UUID) -> Job:
        """Stop a job, or delete its file; its link opens nothing from now on."""
        job = await self.jobs.cancel(caller, str(id_))
        if job is None:
            return await self.status(caller, id_)
        if job.file is not None:
            await self.remove(job.tenant, job.id)
        return job

    def link(self, job: Job) -> str | None:
        """Return where the file of a finished job can be fetched, by whoever has the link."""
        if job.state != "done" or job.file is None:
            return None
        life_s = self.bounds.link.total_seconds()
        return self._links.make("exports", job.tenant, job.id, life_s=life_s)

    def told(self, job: Job) -> dict[str, Any]:
        """Return what the owner of a job may know of it."""
        facts = {
            "job_id": job.id,
            "state": job.state,
            "rows": job.rows,
            "bytes": job.bytes,
            "sha256": job.sha256,
            "url": self.link(job),
            "expires_at": job.expires_at,
            "error": job.error and f"{job.error_code}: {job.error}",
            **(job.result or {}),
        }
        return {name: value for name, value in facts.items() if value is not None}

    async def file(self, job_id: str, query: Mapping[str, str]) -> tuple[Job, Path]:
        """Return the job and the file that a link opens.

        Raises:
            NotFound: we never made the link, or the job is of another kind.
            LinkGone: its time is over, or the file was deleted.
        """
        tenant = self._links.tenant_of("exports", job_id, query)
        job = await self.jobs.of_link(tenant, job_id)
        if job is None:
            raise NotFound("file", "behind this link")
        if job.state != "done" or job.file is None:
            raise LinkGone
        return job, self.folder.path(tenant, self._place, job.file)

    async def remove(self, tenant: str, id_: str) -> None:
        """Delete every file of a job."""
        await self.folder.remove(tenant, self._place, id_)
