"""`python -m fleet_data migrate`: what an operator runs before a new version serves."""

from __future__ import annotations

import asyncio
import sys

from fleet_common.errors import FleetError
from fleet_common.settings import SettingsError
from fleet_data.claims import ClaimSigner
from fleet_data.errors import translated
from fleet_data.schema.models import MIGRATIONS, Login, MigrationReport
from fleet_data.schema.repository import MigrationStore
from fleet_data.schema.service import migrate
from fleet_data.settings import Settings

_CONNECT_S = 10.0


def migrate_command(settings: Settings, _words: list[str]) -> int:
    """Migrate the database, print what was done, and return the exit status."""
    if settings.migrator_url is None:
        raise SettingsError(f"{settings.prefix()}MIGRATOR_URL is not set: `migrate` needs it")
    try:
        report = asyncio.run(_migrate(settings, settings.migrator_url.get_secret_value()))
    except FleetError as exc:
        print(f"fleet-data: {exc}", file=sys.stderr)  # noqa: T201 - a command speaks to its terminal
        return 1
    for name in report.applied:
        print(f"applied {name}")  # noqa: T201
    for sentence in report.missing:
        print(f"warning: {sentence}", file=sys.stderr)  # noqa: T201
    print(f"schema is at {report.version:04}")  # noqa: T201
    return 0


async def _migrate(settings: Settings, url: str) -> MigrationReport:
    urls = (settings.reader_url.get_secret_value(), settings.database_url.get_secret_value())
    key = ClaimSigner(settings.claims_key.get_secret_value()).padded_key()
    with translated():
        async with MigrationStore.connect(url, timeout_s=_CONNECT_S) as store:
            return await migrate(
                store,
                MIGRATIONS,
                key=key,
                logins=[login for url in urls if (login := Login.of_url(url))],
            )
