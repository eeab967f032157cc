"""A service that reaches people, whose worker is a process that can be killed, beside a Gmail and an SMTP server."""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import httpx
import pytest
from aiosmtpd.smtp import SMTP

from fleet_cli.testing import PostgresServer
from fleet_common.mcp import Runtime
from fleet_common.metrics import Metrics
from fleet_data.campaigns.opening import Outreach, open_outreach
from fleet_data.claims import Caller, ClaimSigner
from fleet_data.connectors.google.provider import COMPOSE
from fleet_data.connectors.models import Identity, Tokens
from fleet_data.connectors.opening import open_credentials
from fleet_data.crm.cursor import CursorSigner
from fleet_data.crm.repository import CrmRepository
from fleet_data.crm.service import Crm
from fleet_data.crm.values import parse_value
from fleet_data.demo.commands import create_tenant
from fleet_data.pool import Database, Limits, open_pool
from fleet_data.schema.commands import migrate_command
from fleet_data.settings import Settings

GMAIL = Path(__file__).parents[3] / "services" / "data" / "tests" / "emulate" / "gmail.py"
Worker: TypeAlias = Callable[[Settings, Path], AbstractContextManager["subprocess.Popen[bytes]"]]
FAULTS = 0.01  # of the calls, on top of the kills
DEMO = Caller("demo", "key:marketer")
LIMITS = Limits(statement_s=60, wait_s=10)
PEOPLE = """
INSERT INTO store.contacts (tenant, id, first_name, last_name, email, lifecycle, created_by, updated_by)
SELECT 'demo', gen_random_uuid(), 'Person' || n, 'X', 'p' || n || '@example.org', 'lead', 't', 't'
FROM generate_series(1, {count}) n;
INSERT INTO store.consents (tenant, id, address, channel, purpose, state, decided_at, created_by, updated_by)
SELECT 'demo', gen_random_uuid(), email, 'email', 'marketing', 'granted', now(), 't', 't' FROM store.contacts;
"""
logging.getLogger("mail").setLevel(logging.WARNING)  # aiosmtpd tells every line


@dataclass(frozen=True)
class Site:
    """The service of one tenant on a database of its own."""

    settings: Settings
    log: Path
    worker: Worker

    def told(self, **more: Any) -> Site:
        """Return the same site with more settings."""
        return replace(
            self, settings=Settings.model_validate({**self.settings.model_dump(), **more})
        )

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[tuple[Database, Outreach]]:
        """Yield the database and what reaches people, in a process that reaches nobody itself."""
        secret = self.settings.claims_key.get_secret_value()
        async with AsyncExitStack() as stack:
            pools = [
                await stack.enter_async_context(open_pool(url.get_secret_value(), size=2))
                for url in (self.settings.reader_url, self.settings.database_url)
            ]
            database = Database(*pools, signer=ClaimSigner(secret), limits=LIMITS)
            crm = Crm(CrmRepository(database, parse=parse_value), CursorSigner(secret))
            runtime = Runtime.create("data", "0", self.settings)
            accounts = await stack.enter_async_context(
                open_credentials(self.settings, database, runtime.metrics)
            )
            outreach = await stack.enter_async_context(
                open_outreach(self.settings, runtime, database, crm, accounts)
            )
            yield database, outreach

    async def fill(self, count: int) -> None:
        """Add contacts who may be written to."""
        async with self.opened() as (database, _), database.writing(DEMO) as connection:
            await connection.execute(PEOPLE.format(count=count))

    async def connect_mailbox(self, token: str) -> None:
        """Store the account that the mails leave from."""
        signer = ClaimSigner(self.settings.claims_key.get_secret_value())
        async with open_pool(self.settings.database_url.get_secret_value(), size=1) as pool:
            database = Database(pool, pool, signer=signer, limits=LIMITS)
            async with open_credentials(self.settings, database, Metrics("data")) as accounts:
                whose = Identity("news@example.com", "news@example.com")
                tokens = Tokens(token, scopes=(COMPOSE,))
                await accounts.keep(DEMO, uuid4(), "google", whose, tokens)

    async def killed(
        self,
        at: list[int],
        count: Callable[[], Awaitable[int]],
        is_done: Callable[[], Awaitable[bool]],
    ) -> None:
        """Let a worker work until all is done; kill -9 it whenever `count` reaches a number of `at`."""
        dice = random.Random(7)
        for number in [*at, sys.maxsize]:
            with self.worker(self.settings, self.log) as process:
                while await count() < number and not await is_done():
                    assert process.poll() is None, self.log.read_text()[-3000:]
                    await asyncio.sleep(0.05 + dice.random() * 0.05)
                process.send_signal(signal.SIGKILL)


@pytest.fixture
def site(
    postgres_server: PostgresServer, redis_url: str, tmp_path: Path, data_worker: Worker
) -> Iterator[Site]:
    """A site with one tenant and nobody in it."""
    name = f"outreach_{uuid4().hex[:12]}"
    where = urlsplit(postgres_server.create_database(name))
    place = f"{where.hostname}:{where.port}{where.path}?sslmode=disable"
    settings = Settings.model_validate(
        {
            "migrator_url": urlunsplit(where._replace(query="sslmode=disable")),
            "reader_url": f"postgresql://crm_reader:reader-password@{place}",
            "database_url": f"postgresql://crm_writer:writer-password@{place}",
            "claims_key": "a-claims-key-for-tests-of-32-characters",
            "redis_url": redis_url,
            "mail_from": "news@example.com",
            "mail_per_day": 1_000_000,
            "unsubscribe_url": "https://fleet.example.com/unsubscribe",
            "tasks_redelivery_s": 1.0,
            "tasks_worker": False,
        }
    )
    assert migrate_command(settings, []) == 0
    asyncio.run(create_tenant(settings, "demo"))
    yield Site(settings, tmp_path / "worker.log", data_worker)
    postgres_server.drop_database(name)


@dataclass(frozen=True)
class Gmail:
    """The emulated Gmail, for one account."""

    url: str
    http: httpx.AsyncClient
    token: str = "chaos"

    @property
    def settings(self) -> dict[str, str]:
        """What a site must be told to send through it."""
        return {
            "connector_urls": f"google={self.url}",
            "credentials_keys": "a-credentials-key-of-32-characters",
        }

    async def fail(self, calls: int) -> int:
        """Let some of the next calls fail, before or after they took effect; return how many."""
        dice = random.Random(3)
        kinds = ["drop_after", "drop_before", 500]
        faults = {
            call: [dice.choice(kinds) if dice.random() < FAULTS else None for _ in range(calls)]
            for call in ("drafts.create", "drafts.send")
        }
        await self.http.put("/emulator/faults", json={"faults": faults, "per_minute": 10**9})
        return sum(fault is not None for each in faults.values() for fault in each)

    async def count(self) -> int:
        return int((await self.http.get("/emulator/count")).json()["sent"])

    async def sent(self) -> Counter[str]:
        """Return how many mails each address got."""
        return Counter(
            mail["to"] for mail in (await self.http.get("/emulator/sent")).json()["sent"]
        )


@pytest.fixture
async def gmail() -> AsyncIterator[Gmail]:
    headers = {"Authorization": f"Bearer {Gmail.token}"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(GMAIL), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    url = (await process.stdout.readline()).decode().strip()
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=120) as http:
        yield Gmail(url, http)
    process.terminate()
    await process.wait()


@dataclass
class Inbox:
    """An SMTP server that now and then takes a mail and hangs up before it says so."""

    url: str = ""
    taken: Counter[str] = field(default_factory=Counter)
    cut: int = 0
    dice: random.Random = field(default_factory=lambda: random.Random(5))

    async def count(self) -> int:
        return self.taken.total()

    async def handle_DATA(self, server: SMTP, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        await asyncio.sleep(0.002)  # a kill must be able to come in between
        self.taken[envelope.rcpt_tos[0]] += 1
        if self.dice.random() < FAULTS:
            self.cut += 1
            assert isinstance(server.transport, asyncio.WriteTransport)
            server.transport.abort()
        return "250 OK"


@pytest.fixture
async def inbox() -> AsyncIterator[Inbox]:
    inbox, loop = Inbox(), asyncio.get_running_loop()
    async with await loop.create_server(lambda: SMTP(inbox, loop=loop), "127.0.0.1", 0) as server:
        inbox.url = f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield inbox
