"""A sync whose worker is killed -9 again and again: both sides end up the same, nothing lost and nothing twice.

`HUBSPOT_RECORDS=10100 HUBSPOT_KILLS=10 pytest -m chaos tests/chaos/test_hubspot.py -s` is the whole proof:
more records than a search gives.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import httpx
import pytest

from fleet_cli.testing import PostgresServer
from fleet_common.metrics import Metrics
from fleet_data.claims import Caller, ClaimSigner
from fleet_data.connectors.hubspot.models import Request, Run
from fleet_data.connectors.hubspot.repository import SyncRepository
from fleet_data.connectors.models import Identity, Tokens
from fleet_data.connectors.opening import open_credentials
from fleet_data.demo.commands import create_tenant
from fleet_data.pool import Database, Limits, open_pool
from fleet_data.schema.commands import migrate_command
from fleet_data.settings import Settings

Worker: TypeAlias = Callable[[], AbstractContextManager["subprocess.Popen[bytes]"]]
RECORDS = int(os.environ.get("HUBSPOT_RECORDS", "300"))  # of each side
KILLS = int(os.environ.get("HUBSPOT_KILLS", "4"))
FAULTS = 0.02  # of the calls, on top of the kills; a lost answer is asked for again after 30 s
PATIENCE_S = 900.0
HUBSPOT = Path(__file__).parents[2] / "services" / "data" / "tests" / "emulate" / "hubspot.py"
DEMO = Caller("demo", "key:admin")
HERE = f"""
INSERT INTO store.companies (tenant, id, name, domain, created_by, updated_by)
SELECT 'demo', gen_random_uuid(), 'Ours ' || n, 'ours' || n || '.com', 't', 't' FROM generate_series(1, 20) n;
INSERT INTO store.contacts (tenant, id, last_name, email, lifecycle, company_id, created_by, updated_by)
SELECT 'demo', gen_random_uuid(), 'H', 'h' || n || '@x.com', 'lead',
    (SELECT id FROM store.companies WHERE domain = 'ours' || (n % 20 + 1) || '.com'), 't', 't'
FROM generate_series(1, {RECORDS}) n;
"""


@pytest.fixture
def hubspot_url() -> Iterator[str]:
    command = [sys.executable, str(HUBSPOT)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.terminate()


@pytest.fixture
def settings(
    postgres_server: PostgresServer, redis_url: str, hubspot_url: str
) -> Iterator[Settings]:
    """A service on a database of its own, with one tenant."""
    name = f"hubspot_{uuid4().hex[:12]}"
    where = urlsplit(postgres_server.create_database(name))
    place = f"{where.hostname}:{where.port}{where.path}?sslmode=disable"
    settings = Settings.model_validate(
        {
            "migrator_url": urlunsplit(where._replace(query="sslmode=disable")),
            "reader_url": f"postgresql://crm_reader:reader-password@{place}",
            "database_url": f"postgresql://crm_writer:writer-password@{place}",
            "claims_key": "a-claims-key-for-tests-of-32-characters",
            "credentials_keys": "a-credentials-key-of-32-characters",
            "redis_url": redis_url,
            "connector_clients": "hubspot=id:secret",
            "connector_urls": f"hubspot={hubspot_url}",
            "tasks_redelivery_s": 1.0,
        }
    )
    assert migrate_command(settings, []) == 0
    asyncio.run(create_tenant(settings, "demo"))
    yield settings
    postgres_server.drop_database(name)


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[Database]:
    """Yield the database, with the account connected."""
    signer = ClaimSigner(settings.claims_key.get_secret_value())
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(
            open_pool(settings.database_url.get_secret_value(), size=2)
        )
        database = Database(pool, pool, signer=signer, limits=Limits(statement_s=60, wait_s=10))
        accounts = await stack.enter_async_context(
            open_credentials(settings, database, Metrics("data"))
        )
        oauth = accounts.channel("hubspot").provider.oauth
        tokens = Tokens("chaos", scopes=oauth.scopes if oauth else ())
        await accounts.keep(DEMO, uuid4(), "hubspot", Identity("1", "portal 1"), tokens)
        yield database


async def sync_under_fire(database: Database, http: httpx.AsyncClient, worker: Worker) -> Run:
    """Run a sync to its end and kill its worker at random numbers of calls."""
    dice, store = random.Random(11), SyncRepository(database)
    async with store.changing(DEMO) as changes:
        id_ = await changes.start(Request())

    async def state() -> Run:
        async with store.changing(DEMO, keep=False) as changes:
            return await changes.run(id_)

    async def calls() -> int:
        return int((await http.get("/emulator/calls")).json()["calls"])

    ends = time.monotonic() + PATIENCE_S
    begun = await calls()
    expected = 24 + RECORDS // 12
    kill_at = sorted(dice.sample(range(2, expected), KILLS))
    for number in [*kill_at, 10**9]:
        with worker() as process:
            while await calls() - begun < number and (await state()).state == "queued":
                assert process.poll() is None, "the worker ended by itself"
                assert time.monotonic() < ends, (await state()).error
                await asyncio.sleep(dice.random() * 0.05)
            process.send_signal(signal.SIGKILL)
    return await state()


async def test_both_sides_end_up_the_same_whatever_is_killed(
    settings: Settings, hubspot_url: str, tmp_path: Path, data_worker: Callable[..., Any]
) -> None:
    worker = partial(data_worker, settings, tmp_path / "worker.log")
    headers, dice = {"Authorization": "Bearer chaos"}, random.Random(5)
    names = ("batch.upsert", "batch.update", "associations.create", "batch.read", "search")
    faults = {
        name: [
            dice.choice(["drop_after", "drop_before", 429, 503]) if dice.random() < FAULTS else None
            for _ in range(RECORDS)
        ]
        for name in names
    }
    people = [{"email": f"t{n}@x.com", "lastname": "T", "city": "Bern"} for n in range(RECORDS)]
    both = [{"email": f"h{n}@x.com", "lastname": "H", "city": "Zug"} for n in range(1, 21)]
    async with (
        httpx.AsyncClient(base_url=hubspot_url, headers=headers, timeout=60) as http,
        opened(settings) as database,
    ):
        for records in (people, both):
            await http.post("/emulator/fill", json={"kind": "contacts", "records": records})
        limits = {"per_10s": 100_000, "search_per_s": 100_000}
        await http.put("/emulator/faults", json={"faults": faults, **limits})
        async with database.writing(DEMO) as connection:
            await connection.execute(HERE)
        began = time.monotonic()
        run = await sync_under_fire(database, http, worker)
        took = time.monotonic() - began
        await http.put("/emulator/faults", json=limits)
        quiet = await sync_under_fire(database, http, worker)
        async with database.writing(DEMO, keep=False) as connection:
            rows = await connection.fetch(
                "SELECT c.email, c.city, c.last_name, o.domain FROM store.contacts c "
                "LEFT JOIN store.companies o ON o.id = c.company_id"
            )
        told = (await http.get("/emulator/state")).json()
    there = told["records"]["contacts"]
    domains = {id_: r.get("domain") for id_, r in told["records"]["companies"].items()}
    company = {id_: domains[next(iter(o))] for kind, id_, to, o in told["links"]
               if (kind, to) == ("contacts", "companies")}  # fmt: skip
    print(f"\n{KILLS} kills, {took:.0f} s, {dict(told['calls'])}\n{run.counts}\n{quiet.counts}")
    assert (run.state, quiet.state, set(quiet.counts) <= {"unchanged"}) == ("done", "done", True)
    assert Counter(r["email"] for r in there.values()) == Counter(r["email"] for r in rows)
    assert len(rows) == len(there) == 2 * RECORDS
    assert sorted((r["email"], r["city"] or "", r["domain"] or "") for r in rows) == sorted(
        (r["email"], r.get("city", ""), company.get(id_) or "") for id_, r in there.items()
    )
