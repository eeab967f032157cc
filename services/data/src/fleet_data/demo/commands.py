"""`python -m fleet_data seed [TENANT]` and `python -m fleet_data tenant NAME`."""

from __future__ import annotations

import asyncio
import sys
import time
from importlib.util import find_spec

from fleet_common.errors import FleetError
from fleet_common.settings import SettingsError
from fleet_data.claims import Caller, ClaimSigner
from fleet_data.demo.models import Rows, Seeded
from fleet_data.demo.repository import TenantStore
from fleet_data.errors import translated
from fleet_data.settings import Settings

DEMO_TENANT = "demo"
_CONNECT_S = 10.0


def seed_command(settings: Settings, words: list[str]) -> int:
    """Fill a tenant (`demo` by default) with demo data, once, and return the exit status."""
    if find_spec("faker") is None:
        raise SettingsError("demo data needs the extra `demo`: pip install 'fleet-data[demo]'")
    tenant, started = (words or [DEMO_TENANT])[0], time.monotonic()
    try:
        seeded = asyncio.run(seed(settings, tenant))
    except FleetError as exc:
        return _fail(exc)
    if not seeded.rows:
        print(f"tenant {tenant}: already seeded")  # noqa: T201 - a command speaks to its terminal
        return 0
    counts = ", ".join(f"{count} {table}" for table, count in seeded.rows.items())
    print(f"tenant {tenant}: {counts} in {time.monotonic() - started:.1f} s")  # noqa: T201
    return 0


def tenant_command(settings: Settings, words: list[str]) -> int:
    """Create an empty tenant with the default pipeline, and return the exit status."""
    if len(words) != 1:
        print("usage: python -m fleet_data tenant NAME", file=sys.stderr)  # noqa: T201
        return 2
    try:
        asyncio.run(create_tenant(settings, words[0]))
    except FleetError as exc:
        return _fail(exc)
    print(f"tenant {words[0]} is there")  # noqa: T201
    return 0


async def seed(settings: Settings, tenant: str) -> Seeded:
    """Fill `tenant` with demo data unless it has it already; all of it or nothing."""
    caller = Caller(tenant, "seed")
    with translated():
        async with TenantStore.open(*_how(settings, caller), timeout_s=_CONNECT_S) as store:
            await store.create()
            if await store.is_seeded():
                return Seeded({})
            batch = await asyncio.to_thread(_generate)
            await store.load(batch)
            await store.mark_seeded()
    return Seeded({rows.table: len(rows.values) for rows in batch})


async def create_tenant(settings: Settings, tenant: str) -> None:
    """Create `tenant` with the default pipeline; one that is there stays as it is."""
    caller = Caller(tenant, "operator")
    with translated():
        async with TenantStore.open(*_how(settings, caller), timeout_s=_CONNECT_S) as store:
            await store.create()
            await store.add_default_pipeline()


def _how(settings: Settings, caller: Caller) -> tuple[str, Caller, ClaimSigner]:
    signer = ClaimSigner(settings.claims_key.get_secret_value())
    return settings.database_url.get_secret_value(), caller, signer


def _generate() -> list[Rows]:
    # Faker is an extra and takes a moment to import: only a run that needs it pays.
    from fleet_data.demo.generator import generate  # noqa: PLC0415

    return generate()


def _fail(error: FleetError) -> int:
    print(f"fleet-data: {error}", file=sys.stderr)  # noqa: T201
    return 1
