"""A sync between this test's database and this test's HubSpot account."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from fleet_common.http import open_client
from fleet_data.claims import Caller
from fleet_data.connectors.hubspot.client import Pace
from fleet_data.connectors.hubspot.models import Request, Run
from fleet_data.connectors.hubspot.repository import SyncRepository
from fleet_data.connectors.hubspot.syncing import INBOX, Reader, Sync, Syncer
from fleet_data.jobs.models import Job, Lease
from fleet_data.pool import Database


@dataclass(frozen=True)
class OneAccount:
    """The tenants' accounts: every tenant has this one."""

    url: str
    token: str

    @asynccontextmanager
    async def session(
        self, provider: str, caller: Caller, *scopes: str
    ) -> AsyncGenerator[httpx.AsyncClient]:
        headers = {"Authorization": f"Bearer {self.token}"}
        async with open_client(name=provider, base_url=self.url, headers=headers) as http:
            yield http


@dataclass(frozen=True)
class Desk:
    """Both sides, and what a test does with them."""

    sync: Sync
    caller: Caller

    async def start(self, **request: Any) -> Job:
        """Make a run that nobody works on yet."""
        async with self.sync.store.changing(self.caller) as changes:
            return Job(self.caller.tenant, "sync", await changes.start(Request(**request)))

    async def state(self, job: Job) -> Run:
        """Return how far a run is."""
        async with self.sync.store.changing(self.caller, keep=False) as changes:
            return await changes.run(job.id)

    async def run(self, **request: Any) -> Run:
        """Run a sync to its end."""
        job = await self.start(**request)
        await Syncer(self.sync)(job, Lease())
        return await self.state(job)

    async def hear(self, **named: list[str]) -> None:
        """Be told by a webhook that records changed, and read them anew: `hear(contact=["101"])`."""
        job = Job(self.caller.tenant, "sync_inbox", INBOX)
        async with self.sync.store.changing(self.caller) as changes:
            await changes.remember(named, job.id)  # type: ignore[arg-type]  # names of objects
        await Reader(self.sync)(job, Lease())

    async def issues(self) -> list[dict[str, Any]]:
        """Return the conflict report."""
        return await self.sync.store.issues(self.caller, before=None, limit=200)


@pytest.fixture
def make_desk(database: Database, portal: Any) -> Callable[..., Desk]:
    """Makes a desk of a tenant: `make_desk(caller, winner="crm")`."""

    def make(caller: Caller, **more: Any) -> Desk:
        accounts = OneAccount(portal.url, portal.token)
        return Desk(Sync(SyncRepository(database), accounts, pace=Pace(0.0), **more), caller)

    return make


@pytest.fixture
def desk(make_desk: Callable[..., Desk], demo: Caller) -> Desk:
    """The desk of the tenant demo, where HubSpot wins."""
    return make_desk(demo)


Rows = Callable[[str], Awaitable[list[dict[str, Any]]]]


@pytest.fixture
def rows(database: Database, demo: Caller) -> Rows:
    """Returns the rows of one statement as the tenant demo."""

    async def fetch(sql: str) -> list[dict[str, Any]]:
        async with database.writing(demo) as connection:
            return [dict(row) for row in await connection.fetch(sql)]

    return fetch
