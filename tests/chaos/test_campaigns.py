"""A campaign whose worker is killed -9 again and again: over Gmail each is mailed exactly once, over SMTP none twice.

`CAMPAIGN_RECIPIENTS=5000 CAMPAIGN_KILLS=10 pytest -m chaos tests/chaos/test_campaigns.py -s` is the whole proof.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID, uuid4

import httpx
import pytest
from aiosmtpd.smtp import SMTP

from fleet_cli.engines.freeport import free_port
from fleet_cli.testing import PostgresServer
from fleet_common.mcp import Runtime
from fleet_common.metrics import Metrics
from fleet_data.campaigns.models import Draft, Letter
from fleet_data.campaigns.opening import open_outreach
from fleet_data.campaigns.service import Campaigns, SendCall
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

RECIPIENTS = int(os.environ.get("CAMPAIGN_RECIPIENTS", "200"))
KILLS = int(os.environ.get("CAMPAIGN_KILLS", "3"))
FAULTS = 0.01  # of the calls, on top of the kills
PATIENCE_S = 900.0
GMAIL = Path(__file__).parents[2] / "services" / "data" / "tests" / "emulate" / "gmail.py"
DEMO = Caller("demo", "key:marketer")
CREDENTIALS_KEY = "a-credentials-key-of-32-characters"
SEGMENT = UUID("00000000-0000-7000-8000-00000000000a")
LETTER = Letter("Hello {{ first_name }}", "Hello {{ first_name }}\n{{ unsubscribe_url }}")
PEOPLE = f"""
INSERT INTO store.contacts (tenant, id, first_name, last_name, email, lifecycle, created_by, updated_by)
SELECT 'demo', gen_random_uuid(), 'Person' || n, 'X', 'p' || n || '@example.org', 'lead', 't', 't'
FROM generate_series(1, {RECIPIENTS}) n;
INSERT INTO store.consents (tenant, id, address, channel, purpose, state, decided_at, created_by, updated_by)
SELECT 'demo', gen_random_uuid(), email, 'email', 'marketing', 'granted', now(), 't', 't' FROM store.contacts;
INSERT INTO store.segments (tenant, id, name, object, kind, filter, created_by, updated_by)
VALUES ('demo', '{SEGMENT}', 'All', 'contact', 'filter', '{{"field":"lifecycle","value":"lead"}}', 't', 't');
"""
logging.getLogger("mail").setLevel(logging.WARNING)  # aiosmtpd tells every line
Count = Callable[[], Awaitable[int]]


@pytest.fixture
def settings(postgres_server: PostgresServer, redis_url: str, tmp_path: Path) -> Iterator[Settings]:
    """A service on a database of its own, with one tenant."""
    name = f"campaign_{uuid4().hex[:12]}"
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
    yield settings
    postgres_server.drop_database(name)


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[tuple[Database, Campaigns]]:
    """Yield the database and the campaigns of a process that sends nothing itself."""
    secret = settings.claims_key.get_secret_value()
    async with AsyncExitStack() as stack:
        pools = [
            await stack.enter_async_context(open_pool(url.get_secret_value(), size=2))
            for url in (settings.reader_url, settings.database_url)
        ]
        limits = Limits(statement_s=60, wait_s=10)
        database = Database(*pools, signer=ClaimSigner(secret), limits=limits)
        crm = Crm(CrmRepository(database, parse=parse_value), CursorSigner(secret))
        runtime = Runtime.create("data", "0", settings)
        accounts = await stack.enter_async_context(
            open_credentials(settings, database, runtime.metrics)
        )
        outreach = await stack.enter_async_context(
            open_outreach(settings, runtime, database, crm, accounts)
        )
        yield database, outreach.campaigns


@contextmanager
def worker(settings: Settings, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run `python -m fleet_data worker` in a process of its own."""
    told = settings.model_dump(exclude_defaults=True, exclude={"tasks_worker", "migrator_url"})
    env = {f"FLEET_DATA_{name.upper()}": _text(value) for name, value in told.items()}
    env |= {"FLEET_DATA_PORT": str(free_port()), "PATH": os.environ["PATH"]}
    with log.open("ab") as output:
        command = [sys.executable, "-m", "fleet_data", "worker"]
        process = subprocess.Popen(command, env=env, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(_text, value))
    return str(value.get_secret_value() if hasattr(value, "get_secret_value") else value)


async def connect_mailbox(settings: Settings, token: str) -> None:
    """Store the account that the mails leave from."""
    limits = Limits(statement_s=60, wait_s=10)
    signer = ClaimSigner(settings.claims_key.get_secret_value())
    async with open_pool(settings.database_url.get_secret_value(), size=1) as pool:
        database = Database(pool, pool, signer=signer, limits=limits)
        async with open_credentials(settings, database, Metrics("data")) as accounts:
            whose = Identity("news@example.com", "news@example.com")
            tokens = Tokens(token, scopes=(COMPOSE,))
            await accounts.keep(DEMO, uuid4(), "google", whose, tokens)


async def send_under_fire(settings: Settings, sent: Count, log: Path) -> tuple[dict[str, str], int]:
    """Launch a campaign, kill its worker at random counts, and return what became of each address."""
    dice = random.Random(7)
    kill_at = sorted(dice.sample(range(1, RECIPIENTS), KILLS))
    async with opened(settings) as (database, campaigns):
        async with database.writing(DEMO) as connection:
            await connection.execute(PEOPLE)
        drafted = await campaigns.draft(DEMO, Draft("Spring", SEGMENT, "News", LETTER))
        await campaigns.send(SendCall(DEMO, UUID(drafted.id), max_per_minute=6000))
        for number in [*kill_at, RECIPIENTS + 1]:
            with worker(settings, log) as process:
                while await sent() < number and not await is_done(campaigns, drafted.id):
                    assert process.poll() is None, "the worker ended by itself"
                    await asyncio.sleep(0.05 + dice.random() * 0.05)
                process.send_signal(signal.SIGKILL)
        async with database.writing(DEMO, keep=False) as connection:
            rows = await connection.fetch("SELECT email, state FROM store.campaign_recipients")
        stats, listed = await campaigns.stats(DEMO, UUID(drafted.id), most=RECIPIENTS)
    assert stats.state == "done"
    return {row["email"]: row["state"] for row in rows}, len(listed)


async def is_done(campaigns: Campaigns, id_: str) -> bool:
    stats, _ = await campaigns.stats(DEMO, UUID(id_))
    return stats.state == "done"


@pytest.fixture
def gmail_url() -> Iterator[str]:
    with subprocess.Popen([sys.executable, str(GMAIL)], stdout=subprocess.PIPE, text=True) as gmail:
        assert gmail.stdout is not None
        yield gmail.stdout.readline().strip()
        gmail.terminate()


async def test_over_gmail_each_is_mailed_exactly_once(
    settings: Settings, gmail_url: str, tmp_path: Path
) -> None:
    dice, headers = random.Random(3), {"Authorization": "Bearer chaos"}
    faults = {
        call: [
            dice.choice(["drop_after", "drop_before", 500]) if dice.random() < FAULTS else None
            for _ in range(RECIPIENTS)
        ]
        for call in ("drafts.create", "drafts.send")
    }
    told = {"connector_urls": f"google={gmail_url}", "credentials_keys": CREDENTIALS_KEY}
    chosen = Settings.model_validate({**settings.model_dump(), **told})
    await connect_mailbox(chosen, "chaos")
    async with httpx.AsyncClient(base_url=gmail_url, headers=headers, timeout=120) as http:
        await http.put("/emulator/faults", json={"faults": faults, "per_minute": 10**9})

        async def count() -> int:
            return int((await http.get("/emulator/count")).json()["sent"])

        began = time.monotonic()
        states, _ = await send_under_fire(chosen, count, tmp_path / "worker.log")
        took = time.monotonic() - began
        sent = Counter(m["to"] for m in (await http.get("/emulator/sent")).json()["sent"])
    print(
        f"\ngmail: {len(sent)} of {RECIPIENTS} mailed, most to one {max(sent.values())}, "
        f"states {dict(Counter(states.values()))}, {KILLS} kills, "
        f"{sum(f is not None for each in faults.values() for f in each)} faults, {took:.0f} s"
    )
    assert sent == dict.fromkeys(states, 1)
    assert len(sent) == RECIPIENTS
    assert set(states.values()) == {"sent"}


async def test_over_smtp_none_is_mailed_twice_and_every_doubt_is_listed(
    settings: Settings, tmp_path: Path
) -> None:
    taken, dice, cut = Counter[str](), random.Random(5), 0

    class Inbox:
        async def handle_DATA(self, server: SMTP, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
            nonlocal cut
            await asyncio.sleep(0.002)  # a kill must be able to come in between
            taken[envelope.rcpt_tos[0]] += 1
            if dice.random() < FAULTS:
                cut += 1
                assert isinstance(server.transport, asyncio.WriteTransport)
                server.transport.abort()
            return "250 OK"

    async def count() -> int:
        return taken.total()

    loop = asyncio.get_running_loop()
    async with await loop.create_server(lambda: SMTP(Inbox(), loop=loop), "127.0.0.1", 0) as server:
        url = f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        chosen = Settings.model_validate({**settings.model_dump(), "smtp_url": url})
        began = time.monotonic()
        states, listed = await send_under_fire(chosen, count, tmp_path / "worker.log")
    doubts = {email for email, state in states.items() if state == "unknown"}
    print(
        f"\nsmtp: {len(taken)} of {RECIPIENTS} mailed, most to one {max(taken.values())}, "
        f"{len(doubts)} unknown and listed ({len(doubts & taken.keys())} of them had arrived), "
        f"{KILLS} kills, {cut} connections cut, {time.monotonic() - began:.0f} s"
    )
    assert max(taken.values()) == 1
    assert {email for email, state in states.items() if state == "sent"} | doubts == states.keys()
    assert states.keys() - taken.keys() <= doubts
    assert listed == len(doubts) >= cut
