"""The envelope: what a cancelled, slow or lost statement leaves behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import asyncpg
import pytest

from fleet_common.deadline import deadline
from fleet_common.errors import DeadlineExceeded, PermissionDenied, Unavailable
from fleet_common.metrics import Metrics
from fleet_data.claims import Caller
from fleet_data.pool import Database, export_pool, open_pool
from fleet_data.settings import Settings

Open = Callable[[Settings], AbstractAsyncContextManager[Database]]

BUSY = "SELECT count(*) FROM generate_series(1, 10000000000) g"
RUNNING = (
    "SELECT count(*) FROM pg_stat_activity "
    "WHERE usename = 'crm_reader' AND datname = current_database() AND state = 'active'"
)


async def until(admin: asyncpg.Connection[asyncpg.Record], sql: str, wanted: object) -> None:
    """Wait until the superuser sees `wanted`."""
    async with asyncio.timeout(5):
        while await admin.fetchval(sql) != wanted:  # noqa: ASYNC110 - it is the server that changes
            await asyncio.sleep(0.02)


async def run(database: Database, caller: Caller, sql: str) -> list[asyncpg.Record]:
    async with database.reading(caller) as connection:
        return await connection.fetch(sql)


async def test_cancelled_task_ends_its_statement_on_the_server(
    database: Database, demo: Caller, admin_connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    task = asyncio.create_task(run(database, demo, BUSY))
    await until(admin_connection, RUNNING, 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(admin_connection, RUNNING, 0)
    idle = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'crm_reader' AND state LIKE 'idle in%'"
    assert await admin_connection.fetchval(idle) == 0


async def test_connection_serves_again_after_a_cancellation(
    settings: Settings, open_database: Open, demo: Caller
) -> None:
    async with open_database(settings.model_copy(update={"pool_size": 1})) as database:
        task = asyncio.create_task(run(database, demo, BUSY))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        rows = await run(database, demo, "SELECT crm.tenant() AS tenant")
    assert rows[0]["tenant"] == "demo"


async def test_statement_ends_with_the_time_of_the_call(database: Database, demo: Caller) -> None:
    with pytest.raises(DeadlineExceeded), deadline(0.3):
        await run(database, demo, BUSY)


async def test_call_without_time_left_does_not_reach_the_database(
    database: Database, demo: Caller
) -> None:
    with pytest.raises(DeadlineExceeded), deadline(0.0):
        await run(database, demo, "SELECT 1")


async def test_without_a_claim_no_row_is_visible(database: Database, demo: Caller) -> None:
    assert len(await run(database, demo, "SELECT * FROM crm.stages")) == 6
    assert await database.bare("SELECT * FROM crm.stages", role="reader") == []


async def test_key_that_the_database_does_not_know_is_refused(
    settings: Settings, open_database: Open, demo: Caller
) -> None:
    strange = settings.model_validate({**settings.model_dump(), "claims_key": "z" * 40})
    async with open_database(strange) as database:
        with pytest.raises(PermissionDenied, match="unknown key"):
            await run(database, demo, "SELECT * FROM crm.stages")


async def test_reader_cannot_write_even_outside_the_envelope(database: Database) -> None:
    with pytest.raises(PermissionDenied):
        await database.bare("INSERT INTO crm.notes (body) VALUES ('x')", role="reader")


async def test_pool_that_is_used_up_is_unavailable_and_not_a_hang(
    settings: Settings, open_database: Open, demo: Caller
) -> None:
    tight = settings.model_copy(update={"pool_size": 1, "pool_wait_s": 0.1})
    async with open_database(tight) as database, database.reading(demo):
        with pytest.raises(Unavailable):
            await run(database, demo, "SELECT 1")


async def test_connections_in_use_are_exported(settings: Settings) -> None:
    metrics = Metrics("data")
    async with open_pool(settings.reader_url.get_secret_value(), size=2) as pool:
        export_pool(pool, "reader", metrics)
        async with pool.acquire():
            shown = (await asyncio.to_thread(metrics.render))[0].decode()
    assert 'data_pool_in_use{role="reader",service="data"} 1.0' in shown
    assert 'data_pool_size{role="reader",service="data"} 2.0' in shown


async def test_database_that_is_away_is_unavailable(
    settings: Settings, open_database: Open, demo: Caller, unused_tcp_port: int
) -> None:
    nowhere = f"postgresql://crm_reader:x@127.0.0.1:{unused_tcp_port}/x?sslmode=disable"
    away = settings.model_validate({**settings.model_dump(), "reader_url": nowhere})
    async with open_database(away) as database:
        with pytest.raises(Unavailable, match="database is not available right now"):
            await run(database, demo, "SELECT 1")


async def test_wrong_password_is_unavailable_and_does_not_show_it(
    settings: Settings, open_database: Open, demo: Caller
) -> None:
    url = settings.reader_url.get_secret_value().replace("reader-password", "hunter2")
    wrong = settings.model_validate({**settings.model_dump(), "reader_url": url})
    async with open_database(wrong) as database:
        with pytest.raises(Unavailable) as caught:
            await run(database, demo, "SELECT 1")
    assert "hunter2" not in str(caught.value)


async def test_connection_lost_in_a_call_is_unavailable_and_the_pool_recovers(
    database: Database, demo: Caller, admin_connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    task = asyncio.create_task(run(database, demo, BUSY))
    await until(admin_connection, RUNNING, 1)
    await admin_connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'crm_reader' "
        "AND datname = current_database()"
    )
    with pytest.raises(Unavailable):
        await task
    assert len(await run(database, demo, "SELECT 1")) == 1


async def test_values_arrive_as_json_has_them(database: Database, demo: Caller) -> None:
    (row,) = await run(
        database,
        demo,
        "SELECT '2026-11-21 09:30+02'::timestamptz AS at, '2026-11-21'::date AS day, 12.50::numeric AS price, "
        "7::numeric AS count, 'NaN'::numeric AS nan, 1234567890.123456789::numeric AS exact, "
        """'{"a": [1]}'::jsonb AS doc, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid AS id""",
    )
    assert dict(row) == {
        "at": "2026-11-21T07:30:00Z",
        "day": "2026-11-21",
        "price": 12.5,
        "count": 7,
        "nan": "NaN",
        "exact": "1234567890.123456789",
        "doc": {"a": [1]},
        "id": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
    }


async def test_row_type_is_returned_although_set_config_is_revoked(
    database: Database, demo: Caller
) -> None:
    (row,) = await run(database, demo, "SELECT s FROM crm.stages s WHERE key = 'won'")
    assert dict(row["s"])["probability"] == 100


async def test_change_is_kept_only_when_nothing_was_raised(
    database: Database, demo: Caller
) -> None:
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - what is raised must be inside the transaction
        async with database.writing(demo) as connection:
            await connection.execute("UPDATE store.pipelines SET name = 'x'")
            raise ZeroDivisionError
    async with database.writing(demo) as connection:
        assert await connection.fetchval("SELECT name FROM store.pipelines") == "Sales"
        await connection.execute("UPDATE store.pipelines SET name = 'y'")
    rows = await run(database, demo, "SELECT name FROM crm.pipelines")
    assert rows[0]["name"] == "y"


async def test_writer_cannot_touch_another_tenant(
    database: Database, demo: Caller, other: Caller
) -> None:
    async with database.writing(other) as connection:
        await connection.execute("UPDATE store.pipelines SET name = 'theirs'")
    rows = await run(database, demo, "SELECT name FROM crm.pipelines")
    assert [row["name"] for row in rows] == ["Sales"]
    with pytest.raises(PermissionDenied, match="row-level security"):
        async with database.writing(other) as connection:
            await connection.execute(
                "INSERT INTO store.pipelines (tenant, key, name) VALUES ('demo', 'x', 'x')"
            )


async def test_writer_cannot_change_the_change_log(database: Database, demo: Caller) -> None:
    for sql in (
        "DELETE FROM store.change_log",
        "UPDATE store.change_log SET actor = 'x'",
        "DELETE FROM store.contacts",
    ):
        with pytest.raises(PermissionDenied):
            async with database.writing(demo) as connection:
                await connection.execute(sql)
