"""From settings to exports and imports that work, with a worker beside them unless other processes do that."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, nullcontext
from datetime import timedelta
from typing import get_args

from fleet_common.metrics import Metrics
from fleet_data.crm.repository import CrmRepository
from fleet_data.crm.values import parse_value
from fleet_data.jobs.depth import JobDepth
from fleet_data.pool import Database
from fleet_data.settings import Settings
from fleet_data.transfer.copying import Copier
from fleet_data.transfer.desk import Bounds, Desk
from fleet_data.transfer.folder import Folder
from fleet_data.transfer.imports import Imports
from fleet_data.transfer.links import Links
from fleet_data.transfer.models import Due, Kind
from fleet_data.transfer.repository import Depth, Jobs, due_jobs
from fleet_data.transfer.service import Exports
from fleet_data.transfer.uploads import Uploads
from fleet_data.transfer.worker import Pace, Runner, Worker

_LINK = timedelta(hours=1)


@asynccontextmanager
async def open_transfers(
    settings: Settings, database: Database, metrics: Metrics
) -> AsyncGenerator[tuple[Exports, Imports]]:
    """Yield exports and imports; `database` gives a statement as long as a file may take."""
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
    known = CrmRepository(database, parse=parse_value)
    exports = Exports(desk, Copier(database), known)

    uploads = Uploads(
        database, folder, links, most_bytes=settings.import_mb * 2**20, life=bounds.life
    )
    inward = Desk(Jobs(database, "import"), "imports", folder, links, bounds)
    imports = Imports(inward, database, uploads)
    runners: dict[Kind, Runner] = {"export": exports, "import": imports}

    async def look() -> list[Due]:
        return list(await due_jobs(database))

    async def forget(due: Due) -> None:
        if due.kind == "upload":
            await uploads.forget(due)
            return
        await runners[due.kind].remove(due.tenant, due.id)
        await runners[due.kind].jobs.expire(due)

    JobDepth(Depth(database)).export(metrics, get_args(Kind))
    pace = Pace(settings.tasks_concurrency, settings.tasks_redelivery_s)
    worker = Worker(runners, look, forget, pace)
    desk.wake = inward.wake = worker.wake
    works = settings.tasks_worker and folder is not None
    async with worker.working() if works else nullcontext():
        yield exports, imports
