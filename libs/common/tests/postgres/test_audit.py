"""The sink `postgres` against a real server, as the role that may only insert."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from fleet_cli.testing import PostgresServer
from fleet_common.audit import AuditEvent, AuditLog, verify
from fleet_common.audit.writer import Pace
from fleet_common.errors import AuditUnavailable
from fleet_common.postgres.audit import SCHEMA, PostgresSink
from fleet_common.testing import wait_until


@pytest.fixture
def database(postgres_server: PostgresServer) -> Iterator[str]:
    """A database with the table, and a login that may do what the sink may."""
    name = f"audit_{uuid.uuid4().hex[:8]}"
    url = postgres_server.create_database(name)

    async def prepare() -> None:
        connection = await asyncpg.connect(url, ssl=False)
        for _ in range(2):  # twice: it may be run again
            await connection.execute(SCHEMA.read_text("utf-8"))
        await connection.execute(
            f"CREATE ROLE {name} LOGIN PASSWORD 'audit' IN ROLE fleet_audit_writer"
        )
        await connection.close()

    asyncio.run(prepare())
    yield url
    postgres_server.drop_database(name)
    postgres_server.execute(f"DROP ROLE {name}")


def as_writer(url: str) -> str:
    parts = urlsplit(url)
    name = parts.path.strip("/")
    return urlunsplit(
        parts._replace(
            netloc=f"{name}:audit@{parts.hostname}:{parts.port}", query="sslmode=disable"
        )
    )


async def fetch(url: str, query: str) -> list[Any]:
    connection = await asyncpg.connect(url, ssl=False)
    try:
        return [row[0] for row in await connection.fetch(query)]
    finally:
        await connection.close()


def log_of(url: str) -> AuditLog:
    return AuditLog(PostgresSink(as_writer(url)), service="data", pace=Pace(retry_s=0.02))


def an_event(target: str) -> AuditEvent:
    return AuditEvent(action="tool", target=target, decision="allow", outcome="ok")


async def test_records_stand_in_the_table_as_in_a_file(database: str) -> None:
    for name in ("a", "b"):
        log = log_of(database)
        async with log.opened():
            log.append(an_event(name))
            await log.commit(an_event(f"{name}\ud800"))
    rows = await fetch(database, "SELECT record FROM fleet_audit ORDER BY chain, seq")
    verdict = verify((str(n), f"{row}\n".encode()) for n, row in enumerate(rows))
    assert (verdict.ok, verdict.chains, verdict.records, verdict.gaps) == (True, 2, 8, [])


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM fleet_audit",
        "UPDATE fleet_audit SET record = ''",
        "DELETE FROM fleet_audit",
        "TRUNCATE fleet_audit",
        "DROP TABLE fleet_audit",
    ],
)
async def test_its_role_may_insert_and_nothing_else(database: str, query: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await fetch(as_writer(database).split("?")[0], query)


async def test_a_group_that_comes_twice_stands_once(database: str) -> None:
    log = log_of(database)
    async with log.opened():
        await log.commit(an_event("a"))
    lines = [f"{row}\n".encode() for row in await fetch(database, "SELECT record FROM fleet_audit")]

    def write_again() -> None:
        sink = PostgresSink(as_writer(database))
        sink.open()
        sink.write(lines)
        sink.close()

    await asyncio.to_thread(write_again)
    assert await fetch(database, "SELECT count(*) FROM fleet_audit") == [3]


async def test_a_database_that_is_away_refuses_and_comes_back(database: str) -> None:
    name = urlsplit(database).path.strip("/")
    admin = urlunsplit(urlsplit(database)._replace(path="/postgres"))

    async def recovered() -> bool:
        try:
            await log.commit(an_event("after"))
        except AuditUnavailable:
            return False
        return True

    log = log_of(database)
    async with log.opened():
        await log.commit(an_event("before"))
        connection = await asyncpg.connect(admin, ssl=False)
        await connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        await connection.execute(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        )
        with pytest.raises(AuditUnavailable):
            await log.commit(an_event("kept"))
        await connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
        await connection.close()
        await wait_until(recovered)
    rows = await fetch(database, "SELECT record FROM fleet_audit ORDER BY seq")
    assert verify((str(n), f"{row}\n".encode()) for n, row in enumerate(rows)).ok
    assert any('"target":"kept"' in row for row in rows)
