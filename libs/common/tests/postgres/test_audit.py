"""The sink `postgres` against a real server, as the role that may only insert."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from fleet_cli.testing import PostgresServer
from fleet_common.audit import AuditEvent, AuditLog, verify
from fleet_common.audit.reading import Question
from fleet_common.audit.writer import Pace
from fleet_common.errors import AuditUnavailable, Unavailable
from fleet_common.postgres.audit import SCHEMA, PostgresReader, PostgresSink
from fleet_common.testing import wait_until


@pytest.fixture
def database(postgres_server: PostgresServer) -> Iterator[str]:
    """A database with the table, a login that may do what the sink may, and one that may read."""
    name = f"audit_{uuid.uuid4().hex[:8]}"
    url = postgres_server.create_database(name)

    async def prepare() -> None:
        connection = await asyncpg.connect(url, ssl=False)
        for _ in range(2):  # twice: it may be run again
            await connection.execute(SCHEMA.read_text("utf-8"))
        for role in ("writer", "reader"):
            await connection.execute(
                f"CREATE ROLE {name}_{role} LOGIN PASSWORD 'audit' IN ROLE fleet_audit_{role}"
            )
        await connection.close()

    asyncio.run(prepare())
    yield url
    postgres_server.drop_database(name)
    postgres_server.execute(f"DROP ROLE {name}_writer, {name}_reader")


def as_writer(url: str) -> str:
    return login(url, "writer")


def login(url: str, role: str) -> str:
    parts = urlsplit(url)
    name = f"{parts.path.strip('/')}_{role}"
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


def log_of(url: str, service: str = "data") -> AuditLog:
    return AuditLog(PostgresSink(as_writer(url)), service=service, pace=Pace(retry_s=0.02))


def an_event(target: str, **facts: Any) -> AuditEvent:
    return AuditEvent(
        **{"action": "tool", "target": target, "decision": "allow", "outcome": "ok", **facts}
    )


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


@pytest.mark.parametrize(
    "query",
    [
        "INSERT INTO fleet_audit (chain, seq, record) VALUES ('x', 1, '')",
        "UPDATE fleet_audit SET record = ''",
        "DELETE FROM fleet_audit",
    ],
)
async def test_the_role_that_reads_may_change_nothing(database: str, query: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await fetch(login(database, "reader").split("?")[0], query)


async def test_one_search_finds_what_all_replicas_wrote_of_one_tenant(database: str) -> None:
    for service, replica in (("data", "1"), ("data", "2"), ("aiml", "3")):
        log = log_of(database, service)
        async with log.opened():
            for tenant in ("acme", "demo"):
                await log.commit(an_event(f"{service}_{tenant}_{replica}", tenant=tenant))
            await log.commit(an_event("crm_delete", tenant="acme", decision="deny"))
            await log.commit(an_event("nobody's"))
    reader = login(database, "reader")

    async def found(service: str | None, **asked: Any) -> list[str]:
        question = Question(**{"tenant": "acme", **asked})
        records, _ = await PostgresReader(reader, service).find(question, limit=9, most=100)
        return [record["target"] for record in records]

    assert await found("data", tool="data_*") == ["data_acme_2", "data_acme_1"]
    assert await found(None, decision="allow") == ["aiml_acme_3", "data_acme_2", "data_acme_1"]
    assert await found(None, tenant="demo", tool="data_*") == ["data_demo_2", "data_demo_1"]
    assert await found(None, tenant=None) == []
    assert await found(None, since=datetime(2100, 1, 1, tzinfo=UTC)) == []
    records, looked_at = await PostgresReader(reader, None).find(
        Question(tenant="acme"), limit=2, most=100
    )
    assert (len(records), looked_at) == (2, 2)
    # Row security and not the query keeps tenants apart.
    assert await fetch(reader.split("?")[0], "SELECT record FROM fleet_audit") == []


async def test_a_search_while_the_database_is_away_is_worth_repeating(database: str) -> None:
    reader = PostgresReader(login(database, "reader").replace("_reader:", "_nobody:"), None)
    with pytest.raises(Unavailable, match="the audit database"):
        await reader.find(Question(tenant="acme"), limit=1, most=1)


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
