"""Exports: asked for once, run by a worker, fetched by link."""

from __future__ import annotations

from dataclasses import replace

from fleet_data.claims import Caller
from fleet_data.crm.questions import Known
from fleet_data.transfer.copying import Copier
from fleet_data.transfer.desk import Desk
from fleet_data.transfer.models import ExportRequest, Finished, Job, Progress
from fleet_data.transfer.outputs import Measured, needs_arrow, open_output, require_arrow, rows_to
from fleet_data.transfer.repository import Jobs
from fleet_data.transfer.sources import source_of, unique


class Exports:
    """Exports of every tenant; what becomes of their jobs is the desk's business."""

    def __init__(self, desk: Desk, copier: Copier, known: Known) -> None:
        self.desk = desk
        self._copier = copier
        self._known = known

    @property
    def jobs(self) -> Jobs:
        """Return the rows of the jobs."""
        return self.desk.jobs

    async def start(self, caller: Caller, request: ExportRequest, *, key: str | None) -> Job:
        """Return the job that makes the file; with a key that was used before, the job of then.

        Raises:
            InvalidInput: the statement is not one, or a name or value is wrong.
            PermissionDenied: it asks for what the caller may not see.
            NotConfigured: there is no folder, or no pyarrow for the format.
            KeyReused: the key named another export.
        """
        _ = self.desk.folder  # asking raises what the caller should know
        if needs_arrow(request.format, request.compress):
            require_arrow()
        request = replace(
            request,
            masks=tuple(sorted(caller.masks)),
            max_rows=min(request.max_rows, self.desk.bounds.rows),
        )
        source = await source_of(self._known, caller, request)
        columns = await self._copier.columns(caller, source)
        if request.format != "csv":
            unique(columns)
        return await self.desk.take(caller, request.to_json(), key=key)

    async def run(self, job: Job, progress: Progress) -> Finished:
        """Write the file of a job; whatever earlier attempts left goes first."""
        request = ExportRequest.of_json(job.request)
        caller = Caller(job.tenant, job.subject, frozenset(request.masks))
        source = await source_of(self._known, caller, request)
        columns = await self._copier.columns(caller, source)
        folder = self.desk.folder
        await self.remove(job.tenant, job.id)
        name = f"{job.id}-{job.attempts}{request.suffix}"
        async with folder.draft(job.tenant, "exports", name) as draft:
            file = Measured(draft.file, self.desk.bounds.bytes)
            output = await folder.run(open_output, request, columns, file)
            async with rows_to(folder, output, file, progress) as sink:
                rows = await self._copier.copy(caller, source, request.format, sink)
            await folder.run(draft.keep)
        return Finished(rows, file.bytes, name, file.sha256)

    async def remove(self, tenant: str, id_: str) -> None:
        """Delete every file of a job."""
        await self.desk.remove(tenant, id_)
