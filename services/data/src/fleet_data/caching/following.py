"""Hearing of changes: the database tells every replica what was committed, and the outbox what was missed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import asyncpg
import structlog

from fleet_common.background import background
from fleet_data.caching.epochs import Epochs
from fleet_data.settings import Settings

log = structlog.get_logger()

CHANNEL = "fleet_changes"
_CONNECT_S = 5.0
_AGAIN_S = 1.0
_MISSED = "SELECT DISTINCT tenant, object FROM store.outbox WHERE created_at > now() - interval '10 minutes'"
_CLEAN = "DELETE FROM store.outbox WHERE created_at < now() - interval '1 day'"


@asynccontextmanager
async def fed(settings: Settings, epochs: Epochs) -> AsyncGenerator[None]:
    """Hear of changes while the block runs; without Redis there is nothing to tell them to."""
    if settings.redis_url is None:
        yield
        return
    url = settings.database_url.get_secret_value()
    async with background(follow(url, epochs), name="follow-changes"):
        yield


async def follow(url: str, epochs: Epochs) -> None:
    """Advance epochs as changes are committed, for as long as the task runs; `url` is the writer's."""
    while True:
        try:
            await _listen(url, epochs)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as exc:
            log.warning("changes_unheard", error=type(exc).__name__)
        finally:
            epochs.is_fed = False
        await asyncio.sleep(_AGAIN_S)


async def _listen(url: str, epochs: Epochs) -> None:
    """Return when the connection is lost."""
    heard: asyncio.Queue[str | None] = asyncio.Queue()
    connection = await asyncpg.connect(url, timeout=_CONNECT_S)
    try:
        connection.add_termination_listener(lambda _: heard.put_nowait(None))
        await connection.add_listener(CHANNEL, lambda *told: heard.put_nowait(str(told[-1])))
        missed = await connection.fetch(_MISSED)
        await epochs.advance((row["tenant"], row["object"]) for row in missed)
        await connection.execute(_CLEAN)
        epochs.is_fed = True
        while (payload := await heard.get()) is not None:
            await epochs.advance([_parsed(payload)])
    finally:
        await connection.close(timeout=_CONNECT_S)


def _parsed(payload: str) -> tuple[str, str]:
    tenant, _, name = payload.partition("/")
    return tenant, name
