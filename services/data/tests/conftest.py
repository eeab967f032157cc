"""A migrated database per test, cloned from a template, and the service on top of it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import httpx
import pytest
from fastmcp import Client
from fastmcp.client.elicitation import ElicitResult

from fleet_cli.testing import PostgresServer
from fleet_common.auth import Principal
from fleet_common.mcp.server import create_server
from fleet_common.metrics import Metrics
from fleet_common.testing import admin
from fleet_data.claims import Caller, ClaimSigner
from fleet_data.connectors.models import Identity, Tokens
from fleet_data.connectors.opening import open_credentials
from fleet_data.crm.cursor import CursorSigner
from fleet_data.crm.repository import CrmRepository
from fleet_data.crm.service import Crm
from fleet_data.crm.values import parse_value
from fleet_data.demo.commands import create_tenant, seed
from fleet_data.history.repository import HistoryRepository
from fleet_data.history.service import TABLES, History
from fleet_data.pipeline.repository import PipelineRepository
from fleet_data.pipeline.service import Pipeline
from fleet_data.pool import Database, Limits, open_pool
from fleet_data.query.repository import QueryRepository
from fleet_data.query.service import Queries
from fleet_data.relations.repository import RelationsRepository
from fleet_data.relations.service import Relations
from fleet_data.schema.commands import migrate_command
from fleet_data.server import SERVICE
from fleet_data.settings import Settings

CLAIMS_KEY = "a-claims-key-for-tests-of-32-characters"
CREDENTIALS_KEY = "a-credentials-key-of-32-characters"
EMPTY, SEEDED = "data_template_empty", "data_template_seeded"
GMAIL = Path(__file__).parent / "emulate" / "gmail.py"
HUBSPOT = Path(__file__).parent / "emulate" / "hubspot.py"
PEOPLE = """
INSERT INTO store.contacts (tenant, id, first_name, last_name, email, lifecycle, created_by, updated_by)
SELECT 'demo', gen_random_uuid(), 'Person' || n, 'X', 'p' || n || '@example.org', 'lead', 't', 't'
FROM generate_series(1, $1) n
"""
AROUND = """
UPDATE store.contacts SET first_name = NULL WHERE email = 'p1@example.org';
INSERT INTO store.consents (tenant, id, address, channel, purpose, state, decided_at, created_by, updated_by)
SELECT 'demo', gen_random_uuid(), email, 'email', 'marketing', 'granted', now(), 't', 't' FROM store.contacts;
INSERT INTO store.contacts (tenant, id, last_name, email, lifecycle, created_by, updated_by) VALUES
    ('demo', gen_random_uuid(), 'NoConsent', 'no-consent@example.org', 'lead', 't', 't'),
    ('demo', gen_random_uuid(), 'NoAddress', NULL, 'lead', 't', 't');
INSERT INTO store.segments (tenant, id, name, object, kind, filter, created_by, updated_by)
VALUES ('demo', '00000000-0000-7000-8000-00000000000a', 'Everybody', 'contact', 'filter',
    '{"field":"lifecycle","value":"lead"}', 't', 't');
"""


def settings_for(admin_url: str, **more: Any) -> Settings:
    """Return the settings of a service on the database that `admin_url` names."""
    where = urlsplit(admin_url)
    # Without TLS asyncpg looks for no certificate files while it connects, which would block the loop.
    base = f"{where.hostname}:{where.port}{where.path}?sslmode=disable"
    return Settings.model_validate(
        {
            "migrator_url": urlunsplit(where._replace(query="sslmode=disable")),
            "reader_url": f"postgresql://crm_reader:reader-password@{base}",
            "database_url": f"postgresql://crm_writer:writer-password@{base}",
            "claims_key": CLAIMS_KEY,
            "credentials_keys": CREDENTIALS_KEY,
            "pool_size": 4,
            **more,
        }
    )


def clone(server: PostgresServer, name: str, template: str) -> str:
    """Copy a migrated database; rights on the database itself are not copied, so they are given again."""
    url = server.create_database(name, template)
    server.execute(f"REVOKE CREATE, TEMPORARY ON DATABASE {name} FROM PUBLIC")
    server.execute(f"GRANT CONNECT, TEMPORARY ON DATABASE {name} TO crm_writer, crm_migrator")
    return url


@pytest.fixture(scope="session")
def make_settings() -> Callable[..., Settings]:
    """Makes settings for a database: `make_settings(admin_url, pool_size=1)`."""
    return settings_for


@pytest.fixture(scope="session")
def open_database() -> Callable[[Settings], AbstractAsyncContextManager[Database]]:
    """Opens a database with other settings than the test's own."""
    return opened


@pytest.fixture(scope="session")
def template(postgres_server: PostgresServer) -> Iterator[str]:
    """The name of a migrated database with the empty tenants demo and other."""
    settings = settings_for(postgres_server.create_database(EMPTY))
    assert migrate_command(settings, []) == 0
    for tenant in ("demo", "other"):
        asyncio.run(create_tenant(settings, tenant))
    yield EMPTY
    postgres_server.drop_database(EMPTY)


@pytest.fixture(scope="session")
def seeded_template(postgres_server: PostgresServer, template: str) -> Iterator[str]:
    """The name of a migrated database with the demo data."""
    settings = settings_for(clone(postgres_server, SEEDED, template))
    asyncio.run(seed(settings, "demo"))
    yield SEEDED
    postgres_server.drop_database(SEEDED)


@pytest.fixture
def admin_url(postgres_server: PostgresServer, template: str) -> Iterator[str]:
    """The superuser's DSN of an empty, migrated database of this test's own."""
    name = f"data_{uuid4().hex[:12]}"
    yield clone(postgres_server, name, template)
    postgres_server.drop_database(name)


@pytest.fixture
def seeded_url(postgres_server: PostgresServer, seeded_template: str) -> str:
    """The superuser's DSN of the seeded database; tests that use it only read."""
    return postgres_server.url(seeded_template)


@pytest.fixture
def filled_url(postgres_server: PostgresServer, seeded_template: str) -> Iterator[str]:
    """The superuser's DSN of a seeded database of this test's own."""
    name = f"data_{uuid4().hex[:12]}"
    yield clone(postgres_server, name, seeded_template)
    postgres_server.drop_database(name)


@pytest.fixture
def settings(admin_url: str) -> Settings:
    """Settings of a service on this test's database."""
    return settings_for(admin_url)


@pytest.fixture
def demo() -> Caller:
    """Somebody of the tenant demo."""
    return Caller("demo", "key:test0001")


@pytest.fixture
def other() -> Caller:
    """Somebody of another tenant."""
    return Caller("other", "key:test0009")


@asynccontextmanager
async def opened(settings: Settings) -> AsyncGenerator[Database]:
    """Yield the database as the service opens it."""
    secret = settings.claims_key.get_secret_value()
    limits = Limits(statement_s=settings.query_timeout_s, wait_s=settings.pool_wait_s)
    reader, writer = (
        open_pool(url.get_secret_value(), size=settings.pool_size)
        for url in (settings.reader_url, settings.database_url)
    )
    async with reader, writer:
        yield Database(reader, writer, signer=ClaimSigner(secret), limits=limits)


@pytest.fixture
async def database(settings: Settings) -> AsyncGenerator[Database]:
    """The database of this test."""
    async with opened(settings) as database:
        yield database


@pytest.fixture
async def seeded(seeded_url: str) -> AsyncGenerator[Database]:
    """The seeded database; tests that use it only read."""
    async with opened(settings_for(seeded_url)) as database:
        yield database


@pytest.fixture
async def admin_connection(admin_url: str) -> AsyncGenerator[asyncpg.Connection[asyncpg.Record]]:
    """The superuser's view of this test's database."""
    connection = await asyncpg.connect(admin_url, ssl=False)
    yield connection
    await connection.close()


def crm_of(database: Database) -> Crm:
    """Return the CRM on a database."""
    return Crm(CrmRepository(database, parse=parse_value), CursorSigner(CLAIMS_KEY))


@pytest.fixture
def crm(database: Database) -> Crm:
    """The CRM on this test's database."""
    return crm_of(database)


@pytest.fixture
def history(database: Database) -> History:
    """The past of this test's records."""
    return History(HistoryRepository(database, TABLES), CursorSigner(CLAIMS_KEY))


@pytest.fixture
def relations(database: Database) -> Relations:
    """How this test's records hang together."""
    return Relations(RelationsRepository(database))


@pytest.fixture
def pipeline(database: Database) -> Pipeline:
    """The selling of this test."""
    return Pipeline(PipelineRepository(database))


@pytest.fixture
def demo_crm(seeded: Database) -> Crm:
    """The CRM with the demo data; tests that use it only read."""
    return crm_of(seeded)


@pytest.fixture
def queries(seeded: Database) -> Queries:
    """Raw SQL on the demo data."""
    return Queries(QueryRepository(seeded))


class Connect(Protocol):
    """Opens an in-memory client as somebody."""

    def __call__(
        self, principal: Principal | None = ..., settings: Settings = ...
    ) -> AbstractAsyncContextManager[Client[Any]]:
        """Yield the client."""


@pytest.fixture
def connect(settings: Settings) -> Connect:
    """Opens an in-memory client of the whole service on this test's database."""
    chosen = settings

    @asynccontextmanager
    async def _connect(
        principal: Principal | None = None, settings: Settings = chosen
    ) -> AsyncGenerator[Client[Any]]:
        server = create_server(SERVICE, settings, local_principal=principal or admin())
        async with Client(server) as client:
            yield client

    return _connect


class Connected(Protocol):
    """Stores an account as if somebody had connected it."""

    async def __call__(
        self,
        provider: str,
        *,
        token: str,
        refresh: str | None = ...,
        scopes: Sequence[str] | None = ...,
        external_id: str = ...,
        caller: Caller = ...,
    ) -> None:
        """Store it; all scopes that we ask for are granted by default."""


@pytest.fixture
def connected(settings: Settings, demo: Caller) -> Connected:
    """Stores an account of the tenant demo in this test's database."""

    async def store(
        provider: str,
        *,
        token: str,
        refresh: str | None = None,
        scopes: Sequence[str] | None = None,
        external_id: str = "1",
        caller: Caller = demo,
    ) -> None:
        async with (
            opened(settings) as database,
            open_credentials(settings, database, Metrics("data")) as credentials,
        ):
            oauth = credentials.channel(provider).provider.oauth
            granted = tuple(scopes if scopes is not None else oauth.scopes if oauth else ())
            await credentials.keep(
                caller,
                uuid4(),
                provider,
                Identity(external_id, "ada@example.com"),
                Tokens(token, refresh, None, granted),
            )

    return store


@dataclass(frozen=True, slots=True)
class Mailbox:
    """One account at the emulated Gmail, and what was really sent from it."""

    url: str
    token: str
    http: httpx.AsyncClient

    async def fail(self, per_minute: int = 15_000, **faults: list[Any]) -> None:
        """Let calls go wrong in turn: `fail(drafts_send=[429, None, "drop_after"])`."""
        told = {name.replace("_", "."): list(each) for name, each in faults.items()}
        body = {"faults": told, "per_minute": per_minute}
        (await self.http.put("/emulator/faults", json=body)).raise_for_status()

    async def sent(self) -> list[dict[str, str]]:
        """Return the mails that left, in order."""
        sent: list[dict[str, str]] = (await self.http.get("/emulator/sent")).json()["sent"]
        return sent

    async def drafts(self) -> int:
        """Return how many drafts there are."""
        return int((await self.http.get("/emulator/sent")).json()["drafts"])


@contextmanager
def emulated(script: Path) -> Iterator[str]:
    """Yield the URL of an emulator in a process of its own."""
    command = [sys.executable, str(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.terminate()


@pytest.fixture(scope="session")
def gmail_url() -> Iterator[str]:
    """The URL of the emulated Gmail."""
    with emulated(GMAIL) as url:
        yield url


@pytest.fixture(scope="session")
def hubspot_url() -> Iterator[str]:
    """The URL of the emulated HubSpot."""
    with emulated(HUBSPOT) as url:
        yield url


@dataclass(frozen=True, slots=True)
class Portal:
    """One account at the emulated HubSpot."""

    url: str
    token: str
    http: httpx.AsyncClient

    async def set(self, **told: Any) -> None:
        """Change limits, hide records from the search, or let calls go wrong in turn: `faults={"search": [429]}`."""
        (await self.http.put("/emulator/faults", json=told)).raise_for_status()

    async def fill(
        self, kind: str, records: list[dict[str, Any]], modified: int | None = None
    ) -> list[str]:
        """Make records, all of them modified at the same time, and return their ids."""
        told = {"kind": kind, "records": records, "modified": modified}
        return list((await self.http.post("/emulator/fill", json=told)).json()["ids"])

    async def update(self, kind: str, changed: Mapping[str, Mapping[str, str]]) -> None:
        """Change properties of records, by their ids, as their users do."""
        inputs = [{"id": id_, "properties": properties} for id_, properties in changed.items()]
        reply = await self.http.post(
            f"/crm/v3/objects/{kind}/batch/update", json={"inputs": inputs}
        )
        reply.raise_for_status()

    async def state(self) -> Any:
        """Return all there is: `records`, `links`, and how often each call was made."""
        return (await self.http.get("/emulator/state")).json()

    async def records(self, kind: str) -> dict[str, dict[str, Any]]:
        """Return the properties of every record by its id."""
        records: dict[str, dict[str, Any]] = (await self.state())["records"][kind]
        return records


@pytest.fixture
async def portal(hubspot_url: str) -> AsyncGenerator[Portal]:
    """An empty HubSpot account of this test's own, without limits."""
    token = uuid4().hex
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=hubspot_url, headers=headers, verify=False) as http:
        portal = Portal(hubspot_url, token, http)
        await portal.set(per_10s=100_000, search_per_s=100_000)
        yield portal


@pytest.fixture
async def mailbox(gmail_url: str) -> AsyncGenerator[Mailbox]:
    """An empty mailbox of this test's own."""
    token = uuid4().hex
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=gmail_url, headers=headers, verify=False) as http:
        yield Mailbox(gmail_url, token, http)


class Talk(Protocol):
    """Opens a client whose user says yes, and who remembers what was asked."""

    def __call__(
        self, **settings: Any
    ) -> AbstractAsyncContextManager[tuple[Client[Any], list[str]]]:
        """Yield the client and the questions."""


@pytest.fixture
def talk(settings: Settings, mailbox: Any, connected: Connected) -> Talk:
    """The service on this test's database and mailbox."""
    told = {
        "mail_from": "news@example.com",
        "connector_urls": f"google={mailbox.url}",
        "unsubscribe_url": "https://fleet.example.com/unsubscribe",
        "tasks_redelivery_s": 3.0,
    }

    @asynccontextmanager
    async def open_client(
        *, google: bool = True, **more: Any
    ) -> AsyncGenerator[tuple[Client[Any], list[str]]]:
        asked: list[str] = []
        if google:
            await connected("google", token=mailbox.token)

        async def say_yes(message: str, *_: Any) -> ElicitResult[Any]:
            asked.append(message)
            return ElicitResult(action="accept", content={"approve": True})

        chosen = Settings.model_validate({**settings.model_dump(), **told, **more})
        server = create_server(SERVICE, chosen, local_principal=admin())
        async with Client(server, elicitation_handler=say_yes) as client:
            yield client, asked

    return open_client


@pytest.fixture
def people(database: Database, demo: Caller) -> Callable[[int], Any]:
    """Fills the segment: `await people(10)` with that many who may be written to, and two who may not."""

    async def fill(count: int) -> None:
        async with database.writing(demo) as connection:
            await connection.execute(PEOPLE, count)
            await connection.execute(AROUND)

    return fill
