"""Exports: asked for once, run by a worker, fetched by link."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from fleet_common.deadline import remaining
from fleet_common.errors import NotConfigured, NotFound
from fleet_data.claims import Caller
from fleet_data.transfer.copying import Copier
from fleet_data.transfer.errors import LinkGone
from fleet_data.transfer.folder import Folder
from fleet_data.transfer.links import Links
from fleet_data.transfer.models import ExportRequest, Finished, Job, Progress
from fleet_data.transfer.outputs import Measured, needs_arrow, open_output, require_arrow, rows_to
from fleet_data.transfer.repository import Jobs
from fleet_data.transfer.sources import source_of, unique

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


class Exports:
    """Exports of every tenant; `wake` tells the worker of this process that there is a new one."""

    def __init__(
        self, jobs: Jobs, copier: Copier, folder: Folder | None, links: Links, bounds: Bounds
    ) -> None:
        self.jobs = jobs
        self._copier = copier
        self._folder = folder
        self._links = links
        self._bounds = bounds
        self.wake: Callable[[], None] = lambda: None

    async def start(self, caller: Caller, request: ExportRequest, *, key: str | None) -> Job:
        """Return the job that makes the file; with a key that was used before, the job of then.

        Raises:
            InvalidInput: the statement is not one, or a name or value is wrong.
            PermissionDenied: it asks for what the caller may not see.
            NotConfigured: there is no folder, or no pyarrow for the format.
            KeyReused: the key named another export.
        """
        self._configured()
        if needs_arrow(request.format, request.compress):
            require_arrow()
        request = replace(
            request,
            masks=tuple(sorted(caller.masks)),
            max_rows=min(request.max_rows, self._bounds.rows),
        )
        columns = await self._copier.columns(caller, source_of(caller, request))
        if request.format != "csv":
            unique(columns)
        job = await self.jobs.create(caller, request.to_json(), key=key, life=self._bounds.life)
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
        life_s = self._bounds.link.total_seconds()
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
        }
        return {name: value for name, value in facts.items() if value is not None}

    async def file(self, job_id: str, query: dict[str, str]) -> tuple[Job, Path]:
        """Return the job and the file that a link opens.

        Raises:
            NotFound: we never made the link, or the file is in a folder of another replica.
            LinkGone: its time is over, or the file was deleted.
        """
        tenant = self._links.tenant_of("exports", job_id, query)
        job = await self.jobs.of_link(tenant, job_id)
        if job is None or job.state != "done" or job.file is None:
            raise LinkGone
        return job, self._configured().path(tenant, "exports", job.file)

    async def run(self, job: Job, progress: Progress) -> Finished:
        """Write the file of a job; whatever earlier attempts left goes first."""
        request = ExportRequest.of_json(job.request)
        caller = Caller(job.tenant, job.subject, frozenset(request.masks))
        source = source_of(caller, request)
        columns = await self._copier.columns(caller, source)
        folder = self._configured()
        await self.remove(job.tenant, job.id)
        name = f"{job.id}-{job.attempts}{request.suffix}"
        async with folder.draft(job.tenant, "exports", name) as draft:
            file = Measured(draft.file, self._bounds.bytes)
            output = await folder.run(open_output, request, columns, file)
            large = request.format == "parquet"
            async with rows_to(folder, output, file, progress, large=large) as sink:
                rows = await self._copier.copy(caller, source, request.format, sink)
            await folder.run(draft.keep)
        return Finished(rows, file.bytes, name, file.sha256)

    async def remove(self, tenant: str, id_: str) -> None:
        """Delete every file of a job."""
        await self._configured().remove(tenant, "exports", id_)

    def _configured(self) -> Folder:
        if self._folder is None:
            raise NotConfigured(
                "this service has no folder for files", hint="An operator sets FLEET_DATA_FILES_DIR"
            )
        return self._folder
