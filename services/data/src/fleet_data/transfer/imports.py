"""Imports: a file is read, checked and merged in one transaction, which also records that the job is done.

So a job that is killed at any moment has either changed everything it could, and says so, or nothing, and is run
again. A dry run does the same and rolls back.
"""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any

from fleet_common.errors import Conflict, InvalidInput
from fleet_data.claims import Caller
from fleet_data.crm.changing import ChangeSet
from fleet_data.crm.models import ObjectDef
from fleet_data.crm.objects import OBJECTS
from fleet_data.crm.repository import CrmRepository
from fleet_data.crm.values import parse_value
from fleet_data.ids import uuid7
from fleet_data.pool import Database
from fleet_data.transfer.desk import Desk
from fleet_data.transfer.merging import Merging
from fleet_data.transfer.models import Finished, ImportRequest, Job, Progress, Reject
from fleet_data.transfer.outputs import Measured, require_arrow
from fleet_data.transfer.reading import read_records
from fleet_data.transfer.repository import Jobs
from fleet_data.transfer.staging import Stage
from fleet_data.transfer.uploads import Uploads

_TOOL = "import_data"
_SHOWN = 20  # rejects in the answer; the file has them all
_REJECTS_BYTES = 64 * 2**20


class Imports:
    """Imports of every tenant; what becomes of their jobs is the desk's business."""

    def __init__(self, desk: Desk, database: Database, uploads: Uploads) -> None:
        self.desk = desk
        self.uploads = uploads
        self._database = database
        self._crm = CrmRepository(database, parse=parse_value)

    @property
    def jobs(self) -> Jobs:
        """Return the rows of the jobs."""
        return self.desk.jobs

    async def start(self, caller: Caller, request: ImportRequest, *, key: str | None) -> Job:
        """Return the job that imports a file; with a key that was used before, the job of then.

        Raises:
            InvalidInput: `match_on` is not a unique field of the object.
            NotFound: there is no whole upload of that id.
            KeyReused: the key named another import.
        """
        of = OBJECTS[request.object]
        if request.match_on not in ("id", *of.match_on):
            raise InvalidInput(
                f"{of.name} cannot be matched on {request.match_on[:60]!r}",
                hint=f"Use {', '.join(('id', *of.match_on))}",
            )
        if request.format == "parquet":
            require_arrow()
        await self.uploads.path(caller, request.upload)
        request = replace(request, masks=tuple(sorted(caller.masks)))
        return await self.desk.take(caller, request.to_json(), key=key)

    async def run(self, job: Job, progress: Progress) -> Finished:
        """Import the file of a job."""
        request = ImportRequest.of_json(job.request)
        caller = Caller(job.tenant, job.subject, frozenset(request.masks))
        path = await self.uploads.path(caller, request.upload)
        of = await self._object(caller, request)
        folder = self.desk.folder
        await self.remove(job.tenant, job.id)
        lines = read_records(path, request.format)
        stage = await folder.run(Stage, lines, of, request)
        changes = ChangeSet(uuid7(), _TOOL)
        opened = self._database.writing(caller, settings=changes.settings, keep=not request.dry_run)
        async with opened as connection:
            merging = Merging(connection, caller, of, stage.fields, request.match_on)
            await merging.stage(self._chunks(stage, progress))
            for reject in await merging.rejects():
                stage.reject(reject.line, reject.reason)
            counts, refused = await merging.merge()
            rejects = sorted([*stage.rejects, *refused], key=lambda each: each.line)
            changed = counts["created"] + counts["updated"] > 0 and not request.dry_run
            result: dict[str, Any] = {
                **{name: counts[name] for name in ("created", "updated", "unchanged")},
                "rejected": len(rejects),
                "rejects": [[each.line, each.reason] for each in rejects[:_SHOWN]],
                "dry_run": request.dry_run,
                "change_set_id": str(changes.id) if changed else None,
            }
            done = await self._with_rejects(job, rejects, Finished(stage.rows, result=result))
            if request.dry_run:
                return done
            if not await self.jobs.finish_in(connection, job, done):
                raise Conflict("the job was cancelled, or another worker has it")
        return replace(done, is_recorded=True)

    async def remove(self, tenant: str, id_: str) -> None:
        """Delete every file of a job."""
        await self.desk.remove(tenant, id_)

    async def _object(self, caller: Caller, request: ImportRequest) -> ObjectDef:
        of = OBJECTS[request.object]
        if of.is_extensible:
            own = await self._crm.properties(caller, of.name)
            of = of.extended([definition.field for definition in own])
        return of.masking(caller.masks)

    async def _chunks(self, stage: Stage, progress: Progress) -> AsyncGenerator[bytes]:
        while chunk := await self.desk.folder.run(stage.chunk):
            progress.rows = stage.rows
            yield chunk

    async def _with_rejects(self, job: Job, rejects: list[Reject], done: Finished) -> Finished:
        """Return `done` with the file that tells what was not imported, if there is anything."""
        if not rejects:
            return done
        folder, name = self.desk.folder, f"{job.id}-{job.attempts}.csv"
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["line", "reason"])
        writer.writerows([each.line, each.reason] for each in rejects)
        async with folder.draft(job.tenant, "imports", name) as draft:
            file = Measured(draft.file, _REJECTS_BYTES)
            await folder.run(file.write, text.getvalue().encode())
            await folder.run(draft.keep)
        return replace(done, bytes=file.bytes, file=name, sha256=file.sha256)
