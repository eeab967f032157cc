"""`python -m fleet_data reseal`: what an operator runs once a new key is in place, before the old one goes."""

from __future__ import annotations

import asyncio
import sys

from fleet_common.errors import FleetError
from fleet_common.metrics import Metrics
from fleet_data.claims import ClaimSigner
from fleet_data.connectors.opening import REFRESH_S, open_credentials
from fleet_data.pool import Database, Limits, open_pool
from fleet_data.settings import Settings


def reseal_command(settings: Settings, _words: list[str]) -> int:
    """Seal every stored credential with the newest key, and return the exit status."""
    try:
        count = asyncio.run(_reseal(settings))
    except FleetError as exc:
        print(f"fleet-data: {exc}", file=sys.stderr)  # noqa: T201 - a command speaks to its terminal
        return 1
    print(f"{count} sealed anew; the older keys may go")  # noqa: T201
    return 0


async def _reseal(settings: Settings) -> int:
    signer = ClaimSigner(settings.claims_key.get_secret_value())
    limits = Limits(statement_s=REFRESH_S, wait_s=settings.pool_wait_s)
    async with open_pool(settings.database_url.get_secret_value(), size=1) as pool:
        database = Database(pool, pool, signer=signer, limits=limits)
        async with open_credentials(settings, database, Metrics("data")) as credentials:
            return await credentials.reseal()
