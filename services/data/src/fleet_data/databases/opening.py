"""Opening the databases that SQL may be run on."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager

from fleet_data.databases.foreign import ForeignDatabase
from fleet_data.databases.service import Source
from fleet_data.pool import Limits, open_pool
from fleet_data.query.repository import QueryRepository, Readable
from fleet_data.query.service import Queries
from fleet_data.schema.privileges import PrivilegeWatch
from fleet_data.settings import Settings


def source_of(database: Readable) -> Source:
    """Return a database as the tools use it."""
    watch = PrivilegeWatch(database)
    return Source(Queries(QueryRepository(database, watch)), watch)


@asynccontextmanager
async def open_others(settings: Settings, limits: Limits) -> AsyncGenerator[dict[str, Source]]:
    """Yield the databases of the settings by name; nothing connects yet."""
    async with AsyncExitStack() as stack:
        sources = {}
        for name, url in settings.databases.items():
            pool = open_pool(url.get_secret_value(), size=settings.pool_size)
            await stack.enter_async_context(pool)
            sources[name] = source_of(ForeignDatabase(pool, limits))
        yield sources
