"""`python -m fleet_gateway registry list|accept SERVICE TOOL`: what is held back, and letting it through."""

from __future__ import annotations

import argparse
import asyncio
import sys

from fleet_common.errors import FleetError, Unavailable
from fleet_common.redis import REDIS_AWAY, create_redis
from fleet_common.settings import SettingsError
from fleet_gateway.registry.pins import FilePins, Pins, PinStore, RedisPins
from fleet_gateway.settings import Settings


def registry_command(settings: Settings, words: list[str]) -> int:
    """Run one verb, print what it found, and return the exit status."""
    asked = _asked(words)
    try:
        known = asyncio.run(_known(settings, asked))
    except FleetError as exc:
        print(f"fleet-gateway: {exc}", file=sys.stderr)  # noqa: T201
        return 1
    for service, pins in sorted(known.items()):
        print(f"{service}: {len(pins.pinned)} definitions pinned, {len(pins.held)} held")  # noqa: T201
        for definition, digest in sorted(pins.held.items(), key=lambda item: item[0].tool):
            print(f"  held: {definition.tool} (version {definition.version}, sha256 {digest})")  # noqa: T201
    return 0


def _asked(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fleet registry", description="The pinned tools.")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("list", help="what is pinned and what is held back")
    accept = verbs.add_parser("accept", help="offer a held tool as it is now")
    accept.add_argument("service")
    accept.add_argument("tool")
    return parser.parse_args(words)


async def _known(settings: Settings, asked: argparse.Namespace) -> dict[str, Pins]:
    if settings.redis_url is None:
        if settings.pins_file is None:
            raise SettingsError(
                "neither FLEET_GATEWAY_REDIS_URL nor FLEET_GATEWAY_PINS_FILE is set"
            )
        return await _done(FilePins(settings.pins_file), asked)
    redis = create_redis(settings.redis_url.get_secret_value())
    try:
        return await _done(RedisPins(redis), asked)
    except REDIS_AWAY as exc:
        raise Unavailable("Redis") from exc
    finally:
        await redis.aclose(close_connection_pool=True)


async def _done(store: PinStore, asked: argparse.Namespace) -> dict[str, Pins]:
    if asked.verb == "accept":
        await store.accept(asked.service, asked.tool)
    return await store.known()
