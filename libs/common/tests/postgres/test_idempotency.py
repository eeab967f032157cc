"""One key, one change: on a real PostgreSQL, with a counter as the change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from fleet_cli.testing import PostgresServer
from fleet_common.errors import KeyReused
from fleet_common.idempotency import KeyedCall, once
from fleet_common.postgres import PostgresRecords

TABLES = """
CREATE TABLE idempotency (
    tenant text, subject text, tool text, key text, args_hash text NOT NULL, response jsonb,
    created_at timestamptz NOT NULL DEFAULT now(), expires_at timestamptz NOT NULL,
    PRIMARY KEY (tenant, subject, tool, key));
CREATE TABLE changes (id bigint GENERATED ALWAYS AS IDENTITY);
"""
CALL = KeyedCall.of("demo", "key:1", "note_delete", "key-0001", {"id": 1, "why": "ünused"})


@pytest.fixture(scope="module")
def database(postgres_server: PostgresServer) -> Iterator[str]:
    name = f"idempotency_{uuid4().hex[:12]}"
    url = postgres_server.create_database(name)
    yield f"{url}{'&' if '?' in url else '?'}sslmode=disable"
    postgres_server.drop_database(name)


@pytest.fixture
async def url(database: str) -> str:
    async with connected(database) as connection:
        await connection.execute("DROP TABLE IF EXISTS idempotency, changes")
        await connection.execute(TABLES)
    return database


@asynccontextmanager
async def connected(url: str) -> AsyncGenerator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def change_once(url: str, call: KeyedCall, *, fails: bool = False) -> Any:
    async with connected(url) as connection, connection.transaction():

        async def change() -> Any:
            number = await connection.fetchval("INSERT INTO changes DEFAULT VALUES RETURNING id")
            if fails:
                raise RuntimeError("the process died here")
            return {"number": number, "text": "çhanged"}

        return await once(PostgresRecords(connection, table="idempotency"), call, change)


async def count(url: str) -> int:
    async with connected(url) as connection:
        return int(await connection.fetchval("SELECT count(*) FROM changes"))


async def test_a_repeated_call_gets_the_first_answer_and_changes_nothing(url: str) -> None:
    first = await change_once(url, CALL)
    assert first == {"number": 1, "text": "çhanged"}
    assert await change_once(url, CALL) == first
    assert await count(url) == 1


async def test_calls_at_the_same_time_wait_for_the_first(url: str) -> None:
    answers = await asyncio.gather(*(change_once(url, CALL) for _ in range(10)))
    assert answers == [answers[0]] * 10
    assert await count(url) == 1


async def test_other_arguments_are_refused(url: str) -> None:
    await change_once(url, CALL)
    other = KeyedCall.of(CALL.tenant, CALL.subject, CALL.tool, CALL.key, {"id": 2})
    with pytest.raises(KeyReused, match="other arguments"):
        await change_once(url, other)
    assert await count(url) == 1


@pytest.mark.parametrize("part", ["tenant", "subject", "tool", "key"])
async def test_a_key_is_one_callers_of_one_tenant_and_tool(url: str, part: str) -> None:
    await change_once(url, CALL)
    elsewhere: dict[str, Any] = {part: "another"}
    await change_once(url, replace(CALL, **elsewhere))
    assert await count(url) == 2


async def test_a_change_that_failed_leaves_its_key_free(url: str) -> None:
    with pytest.raises(RuntimeError):
        await change_once(url, CALL, fails=True)
    assert (await change_once(url, CALL))["text"] == "çhanged"
    assert await count(url) == 1


async def test_an_expired_key_starts_anew(url: str) -> None:
    await change_once(url, CALL)
    async with connected(url) as connection:
        await connection.execute("UPDATE idempotency SET expires_at = now() - interval '1 second'")
        assert await PostgresRecords(connection, table="idempotency").answered(CALL) is None
    await change_once(url, CALL)
    assert await count(url) == 2


async def test_a_plan_can_look_without_taking_the_key(url: str) -> None:
    async with connected(url) as connection:
        records = PostgresRecords(connection, table="idempotency")
        assert await records.answered(CALL) is None
        first = await change_once(url, CALL)
        assert await records.answered(CALL) == first


async def test_a_key_that_was_taken_and_never_answered_changes_nothing(url: str) -> None:
    async with connected(url) as connection:
        await PostgresRecords(connection, table="idempotency").recall(CALL)
    with pytest.raises(KeyReused):
        await change_once(url, CALL)
    assert await count(url) == 0


def test_the_order_of_arguments_does_not_matter_and_their_values_do() -> None:
    def digest(arguments: Any) -> str:
        return KeyedCall.of("t", "s", "x", "k", arguments).digest

    assert digest({"a": 1, "b": [2]}) == digest({"b": [2], "a": 1})
    assert len({digest(each) for each in ({"a": 1}, {"a": "1"}, {"a": True}, {"a": [1]})}) == 4
