"""`python -m fleet_data databases`: what an operator asks before letting anybody query another database."""

from __future__ import annotations

import asyncio
import sys

from fleet_common.errors import FleetError
from fleet_data.databases.models import Standing
from fleet_data.databases.opening import open_others
from fleet_data.databases.service import standing_at
from fleet_data.pool import Limits
from fleet_data.settings import Settings


def databases_command(settings: Settings, _words: list[str]) -> int:
    """Print each other database's role, what it must not have and what is missing; 1 when one cannot be used."""
    return asyncio.run(_describe(settings))


async def _describe(settings: Settings) -> int:
    status = 0
    limits = Limits(statement_s=settings.query_timeout_s, wait_s=settings.pool_wait_s)
    async with open_others(settings, limits) as others:
        for name, source in others.items():
            try:
                standing = await standing_at(name, source)
            except FleetError as exc:
                print(f"{name}: {exc}", file=sys.stderr)  # noqa: T201 - a command speaks to its terminal
                status = 1
                continue
            _tell(name, standing)
            status = status or bool(standing.refused)
    return int(status)


def _tell(name: str, standing: Standing) -> None:
    print(f"{name}: role {standing.role}")  # noqa: T201
    for privilege in standing.refused:
        print(f"  refused because of {privilege}")  # noqa: T201
    for sentence in standing.missing:
        print(f"  missing: {sentence}")  # noqa: T201
