"""The sync as the settings say, with a worker beside it unless other processes do that."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace

from fleet_data.connectors.credentials import Credentials
from fleet_data.connectors.hubspot.repository import SyncRepository
from fleet_data.connectors.hubspot.service import HubSpotSync
from fleet_data.connectors.hubspot.syncing import Reader, Sync, Syncer
from fleet_data.jobs.models import Handler
from fleet_data.jobs.repository import JobRepository
from fleet_data.jobs.worker import Worker
from fleet_data.pool import Database
from fleet_data.settings import Settings


@asynccontextmanager
async def open_hubspot(
    settings: Settings, database: Database, credentials: Credentials
) -> AsyncGenerator[HubSpotSync]:
    """Yield the sync; a process that works on tasks also does the syncing."""
    sync = Sync(
        SyncRepository(database),
        credentials,
        winner=settings.hubspot_winner,
        customs=settings.hubspot_fields,
    )
    service = HubSpotSync(sync, credentials)
    if not settings.tasks_worker:
        yield service
        return
    handlers: dict[str, Handler] = {"sync": Syncer(sync), "sync_inbox": Reader(sync)}
    worker = Worker(JobRepository(database), handlers, lease_s=settings.tasks_redelivery_s)
    async with worker.working(grace_s=settings.shutdown_grace_s):
        yield replace(service, wake=worker.wake)
