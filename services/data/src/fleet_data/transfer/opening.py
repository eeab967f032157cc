"""From settings to exports that work, with a worker beside them unless other processes do that."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, nullcontext
from datetime import timedelta

from fleet_data.pool import Database
from fleet_data.settings import Settings
from fleet_data.transfer.copying import Copier
from fleet_data.transfer.desk import Bounds, Desk
from fleet_data.transfer.folder import Folder
from fleet_data.transfer.links import Links
from fleet_data.transfer.models import Due
from fleet_data.transfer.repository import Jobs, due_jobs
from fleet_data.transfer.service import Exports
from fleet_data.transfer.worker import Pace, Worker

_LINK = timedelta(hours=1)


@asynccontextmanager
async def open_exports(settings: Settings, database: Database) -> AsyncGenerator[Exports]:
    """Yield the exports; `database` gives a statement as long as a file may take."""
    folder = None if settings.files_dir is None else Folder(settings.files_dir)
    base = settings.links_url or f"http://{settings.host}:{settings.port}"
    links = Links(settings.claims_key.get_secret_value(), base)
    bounds = Bounds(
        rows=settings.export_rows,
        bytes=settings.export_mb * 2**20,
        life=timedelta(hours=settings.files_hours),
        link=_LINK,
    )
    desk = Desk(Jobs(database, "export"), "exports", folder, links, bounds)
    exports = Exports(desk, Copier(database))

    async def look() -> list[Due]:
        return list(await due_jobs(database))

    async def forget(due: Due) -> None:
        if due.kind == "export":
            await exports.remove(due.tenant, due.id)
            await exports.jobs.expire(due)

    pace = Pace(settings.tasks_concurrency, settings.tasks_redelivery_s)
    worker = Worker({"export": exports}, look, forget, pace)
    desk.wake = worker.wake
    works = settings.tasks_worker and folder is not None
    async with worker.working() if works else nullcontext():
        yield exports
