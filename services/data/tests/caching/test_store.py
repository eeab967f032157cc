"""Records read through Redis: kept for all replicas, and never older than the last change."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from fleet_common.cache import Cache
from fleet_common.metrics import Metrics
from fleet_common.redis import create_redis
from fleet_common.testing.waiting import wait_until
from fleet_data.caching.epochs import Epochs, space_of
from fleet_data.caching.following import fed
from fleet_data.caching.service import Records
from fleet_data.caching.store import CachedStore
from fleet_data.claims import Caller
from fleet_data.crm.cursor import CursorSigner
from fleet_data.crm.repository import CrmRepository
from fleet_data.crm.service import Crm
from fleet_data.crm.values import parse_value
from fleet_data.pool import Database
from fleet_data.settings import Settings

ADA = {"last_name": "Lovelace", "email": "ada@example.com"}


@dataclass(frozen=True, slots=True)
class Replica:
    """One process of the service."""

    crm: Crm
    store: CachedStore
    epochs: Epochs
    records: Records

    async def title(self, caller: Caller, id_: UUID) -> Any:
        found = await self.crm.get(caller, "contact", [id_], fields=["title"])
        return found.page.rows[0][0] if found.page.rows else None


@asynccontextmanager
async def replica(database: Database, settings: Settings, url: str) -> AsyncGenerator[Replica]:
    redis = create_redis(url)
    own = settings.model_validate({**settings.model_dump(), "redis_url": url})
    epochs = Epochs(redis, space_of(own.database_url.get_secret_value()))
    repository = CrmRepository(database, parse=parse_value)
    store = CachedStore(repository, Cache(redis, Metrics("test")), epochs)
    async with fed(own, epochs):
        yield Replica(Crm(store, CursorSigner("x")), store, epochs, Records(store, epochs))
    await redis.aclose(close_connection_pool=True)


async def is_fed(one: Replica) -> None:
    async def holds() -> bool:
        return one.epochs.is_fed

    await wait_until(holds)


async def counted(one: Replica, caller: Caller, changes: int) -> None:
    """Return when that many changes of contacts were counted."""

    async def holds() -> bool:
        return (await one.records.stats(caller)).epochs["contact"] >= changes

    await wait_until(holds)


async def test_a_record_is_read_once_for_all_replicas_and_for_nobody_else(
    database: Database, settings: Settings, redis_url: str, demo: Caller, other: Caller
) -> None:
    async with (
        replica(database, settings, redis_url) as one,
        replica(database, settings, redis_url) as two,
    ):
        await is_fed(one)
        await is_fed(two)
        made = await one.crm.upsert(demo, "contact", [ADA])
        id_ = UUID(made.rows[0].id)
        await counted(one, demo, 3)  # where it was made, and by both that the database told

        async def is_shared() -> (
            bool
        ):  # a Redis that takes its time on a busy machine is left alone for a second
            assert [await one.title(demo, id_), await two.title(demo, id_)] == [None, None]
            return two.store.hits > 0

        await wait_until(is_shared)
        misses = two.store.misses
        assert await two.title(other, id_) is None
        masked = replace(demo, masks=frozenset({"title"}))
        assert await two.title(masked, id_) == "***"
        assert two.store.misses == misses + 2


async def test_a_change_is_seen_at_once_here_and_soon_elsewhere(
    database: Database,
    settings: Settings,
    redis_url: str,
    demo: Caller,
    admin_connection: asyncpg.Connection[asyncpg.Record],
) -> None:
    async with replica(database, settings, redis_url) as one:
        await is_fed(one)
        made = await one.crm.upsert(demo, "contact", [ADA])
        id_ = UUID(made.rows[0].id)
        await one.title(demo, id_)
        await one.crm.upsert(demo, "contact", [{"id": str(id_), "title": "Countess"}])
        assert await one.title(demo, id_) == "Countess"
        # A change that does not come through this store is told by the database.
        async with database.writing(demo) as connection:
            await connection.execute("UPDATE store.contacts SET title = 'Lady', updated_by = 'x'")

        async def is_heard() -> bool:
            return bool(await one.title(demo, id_) == "Lady")

        await wait_until(is_heard)
        # Nobody listens while the connection is lost, so nothing is kept then.
        await admin_connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND query LIKE 'DELETE FROM store.outbox%'"
        )

        async def is_deaf() -> bool:
            return not one.epochs.is_fed

        await wait_until(is_deaf)
        hits = one.store.hits
        assert await one.title(demo, id_) == "Lady"
        assert one.store.hits == hits
        await is_fed(one)


async def test_lookup_tells_what_is_kept_and_invalidation_empties_it(
    database: Database, settings: Settings, redis_url: str, demo: Caller
) -> None:
    async with replica(database, settings, redis_url) as one:
        await is_fed(one)
        made = await one.crm.upsert(demo, "contact", [ADA])
        ids = [UUID(made.rows[0].id)]
        await counted(one, demo, 2)
        assert not (await one.records.lookup(demo, "contact", ids)).is_kept

        async def is_kept() -> bool:
            await one.crm.get(demo, "contact", ids)
            looked = await one.records.lookup(demo, "contact", ids)
            assert looked.kept_for_s is None or 0 < looked.kept_for_s <= 60
            return looked.is_kept

        await wait_until(is_kept)
        before = (await one.records.stats(demo)).epochs
        assert (await one.records.invalidate(demo, "contact")).objects == ["contact"]
        assert not (await one.records.lookup(demo, "contact", ids)).is_kept
        stats = await one.records.stats(demo)
        assert stats.is_used
        assert stats.epochs == {**before, "contact": before["contact"] + 1}


@pytest.mark.parametrize("fed_now", [True, False])
async def test_without_redis_or_without_news_the_database_answers(
    database: Database, redis_url: str, unused_tcp_port: int, demo: Caller, fed_now: bool
) -> None:
    url = f"redis://127.0.0.1:{unused_tcp_port}" if fed_now else redis_url
    redis = create_redis(url)
    epochs = Epochs(redis, f"test-{unused_tcp_port}")
    epochs.is_fed = fed_now
    repository = CrmRepository(database, parse=parse_value)
    store = CachedStore(repository, Cache(redis, Metrics("test")), epochs)
    crm = Crm(store, CursorSigner("x"))
    made = await crm.upsert(demo, "contact", [ADA])
    found = await crm.get(demo, "contact", [UUID(made.rows[0].id)])
    assert (found.missing_ids, store.hits, store.misses) == ([], 0, 0)
    stats = await Records(store, epochs).stats(demo)
    assert (stats.is_used, stats.epochs) == (False, {})
    assert not (
        await Records(store, epochs).lookup(demo, "contact", [UUID(made.rows[0].id)])
    ).is_kept
    await redis.aclose(close_connection_pool=True)


async def test_a_change_that_redis_missed_is_made_up_for_before_it_is_used_again(
    redis_url: str, unused_tcp_port: int
) -> None:
    away, back = create_redis(f"redis://127.0.0.1:{unused_tcp_port}"), create_redis(redis_url)
    epochs = Epochs(away, f"test-{unused_tcp_port}")
    epochs.is_fed = True
    await epochs.advance([("demo", "deal")])
    assert await epochs.read("demo", ["deal"]) is None
    epochs._redis = back
    assert await epochs.read("demo", ["deal", "lead"]) == [1, 0]
    assert await epochs.read("demo", ["deal"]) == [1]
    for redis in (away, back):
        await redis.aclose(close_connection_pool=True)
