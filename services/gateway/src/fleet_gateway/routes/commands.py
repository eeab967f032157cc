"""`python -m fleet_gateway routes export`: asks the services what they offer and prints the routes."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack

import yaml
from yarl import URL

from fleet_common.mcp import Runtime
from fleet_gateway.balancing.service import Pool
from fleet_gateway.deps import Deps
from fleet_gateway.registry.models import Offer
from fleet_gateway.routes.models import Backend, Placement, http_routes
from fleet_gateway.settings import Settings

OpenDeps = Callable[[Settings, Runtime], AbstractAsyncContextManager[Deps]]


def routes_command(open_deps: OpenDeps) -> Callable[[Settings, list[str]], int]:
    """Return the command; it opens what the gateway itself opens."""

    def command(settings: Settings, words: list[str]) -> int:
        asked = _asked(words)
        backends = asyncio.run(_backends(settings, open_deps))
        if missing := sorted(settings.backends().keys() - {each.service for each in backends}):
            print(f"fleet-gateway: no answer from {', '.join(missing)}", file=sys.stderr)  # noqa: T201
            return 1
        placement = Placement(asked.gateway, asked.namespace, tuple(asked.hostname))
        routes = http_routes(backends, Backend("gateway", settings.port), placement)
        print(yaml.safe_dump_all(routes, sort_keys=False), end="")  # noqa: T201
        return 0

    return command


def _asked(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fleet routes", description="Print the routing table.")
    parser.add_argument("verb", choices=["export"], help="print it as Gateway API HTTPRoutes")
    parser.add_argument("--gateway", default="fleet", help="the Gateway that the routes attach to")
    parser.add_argument("--namespace", default="mcp-fleet", help="namespace of the routes")
    parser.add_argument("--hostname", action="append", default=[], help="host; may be repeated")
    return parser.parse_args(words)


async def _backends(settings: Settings, open_deps: OpenDeps) -> list[Backend]:
    runtime = Runtime.create("gateway", "", settings)
    urls = settings.backends()
    async with AsyncExitStack() as stack:
        # Not the whole runtime: the audit log belongs to the process that serves.
        if runtime.redis is not None:
            stack.push_async_callback(runtime.redis.aclose, close_connection_pool=True)
        deps = await stack.enter_async_context(open_deps(settings, runtime))
        services = deps.registry.catalogue.services
        return [
            Backend(*_reference(name, urls, deps.pools[name]), _names(state.offer))
            for name, state in services.items()
            if state.seen_at is not None
        ]


def _reference(name: str, urls: Mapping[str, Sequence[str]], pool: Pool) -> tuple[str, int]:
    if name in urls:
        return name, URL(urls[name][0]).port or 80
    # What the cluster names is called by its Kubernetes Service and that one's port.
    service, _, port = pool.endpoints[0].address.authority.rpartition(":")
    return service, int(port)


def _names(offer: Offer) -> tuple[tuple[str, str], ...]:
    tools = [("tools/call", name) for name in offer.tools]
    return tuple(tools + [("prompts/get", name) for name in offer.prompts])
