"""The registry: looks at each service's catalogue every few seconds.

A service that does not answer keeps its last catalogue: its calls then fail as `unavailable`, which a client
may retry, instead of as an unknown tool, which it would not. A tool whose definition changed without a new
version of its service is held back.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime

import structlog

from fleet_common.auth import Principal
from fleet_common.background import background
from fleet_common.errors import FleetError, Unavailable
from fleet_common.metrics import Metrics
from fleet_common.policy import REGISTRY_ROLE
from fleet_common.redis import REDIS_AWAY
from fleet_gateway.lists.cache import Source
from fleet_gateway.lists.models import Page, Row
from fleet_gateway.registry.models import Catalogue, Offer, ServiceState
from fleet_gateway.registry.pins import Definition, Digests, Pins, PinStore
from fleet_gateway.routing.models import LISTS

log = structlog.get_logger()

# The registry must see every name there is, in no tenant's data: it lists, and calls nothing.
_REGISTRAR = Principal(
    subject="fleet-gateway", tenant="", roles=frozenset({REGISTRY_ROLE}), kind="internal"
)
# A gateway that starts with the fleet waits this long for its services; one that starts while a service is
# down must not wait for it.
_SETTLE_S = 15.0


class Registry:
    """What each service offers, as of the last look."""

    def __init__(
        self,
        catalogue: Catalogue,
        sources: Mapping[str, Source],
        is_ready: Callable[[str], Awaitable[bool]],
        pins: PinStore,
        metrics: Metrics,
        *,
        refresh_s: float,
        list_timeout_s: float,
        holds: bool = True,
        has_endpoints: Callable[[str], bool] = lambda _service: True,
    ) -> None:
        self._holds = holds
        self._has_endpoints = has_endpoints
        self.catalogue = catalogue
        self.on_change: list[Callable[[], None]] = []
        self._sources = sources
        self._is_ready = is_ready
        self._pins = pins
        self._known_pins: dict[str, Pins] = {}
        self._held = metrics.gauge(
            "mcp_gateway_tools_held", "Tools held back because their definition changed.", "dep"
        )
        self._refresh_s = refresh_s
        self._list_timeout_s = list_timeout_s
        self._looking = asyncio.Lock()
        self._has_changed = asyncio.Event()
        self._looked_at = float("-inf")
        self._began = time.monotonic()

    @asynccontextmanager
    async def watching(self) -> AsyncGenerator[None]:
        """Look now, and again every `refresh_s` seconds while the block runs."""
        await self.refresh()
        async with background(self._watch(), name="registry"):
            yield

    async def settled(self) -> None:
        """Return once every service was seen, or long enough was waited for those that are away.

        Raises:
            Unavailable: a service has not answered yet, and the gateway is young.
        """
        unseen = self.catalogue.unseen()
        if unseen and time.monotonic() - self._began < _SETTLE_S:
            raise Unavailable(f"the {unseen} service")

    def joined(self, _service: str) -> None:
        """Look soon: there is a new service."""
        self._has_changed.set()

    def left(self, service: str) -> None:
        """Say that what a service offered is gone."""
        self._known_pins.pop(service, None)
        self._held.labels(dep=service).set(0)
        self._tell()

    def is_offered(self, service: str, method: str, row: Row) -> bool:
        """Return whether a row of a service may be shown: a tool must be what it was when it was pinned."""
        pins = self._known_pins.get(service)
        return method != "tools/list" or pins is None or pins.allows(row.key, row.digest)

    async def refresh_if_older(self, seconds: float) -> None:
        """Look again unless the last look is younger than `seconds`."""
        if time.monotonic() - self._looked_at >= seconds:
            await self.refresh()

    async def refresh(self) -> None:
        """Look at every service once; callers that come together share one look."""
        if self._looking.locked():
            async with self._looking:
                return
        async with self._looking:
            async with asyncio.TaskGroup() as group:
                for service, source in self._sources.items():
                    state = self.catalogue.services[service]
                    group.create_task(
                        self._look_at(service, source, state), name=f"look-at-{service}"
                    )
            self._looked_at = time.monotonic()

    async def _watch(self) -> None:
        while True:
            # Services that have never answered are starting: ask them often.
            is_new = self.catalogue.unseen() is not None
            with suppress(TimeoutError):
                async with asyncio.timeout(
                    min(0.25, self._refresh_s) if is_new else self._refresh_s
                ):
                    await self._has_changed.wait()
            self._has_changed.clear()
            await self.refresh()

    async def _look_at(self, service: str, source: Source, state: ServiceState) -> None:
        if state.seen_at and not self._has_endpoints(service):
            # Scaled to zero: to ask would hold the question and so start a pod that nobody needs.
            state.is_ready = False
            return
        try:
            async with asyncio.timeout(self._list_timeout_s):
                pages = {method: await source(method, _REGISTRAR) for method in LISTS}
                is_ready = await self._is_ready(service)
        except (FleetError, TimeoutError) as exc:
            if state.is_ready:
                log.warning("service_lost", service=service, error=type(exc).__name__)
            state.is_ready = False
            return
        tools = pages["tools/list"]
        if not tools.version:
            tools = pages["tools/list"] = replace(tools, version=state.labelled_version)
        pins = await self._judged(service, tools)
        state.is_ready = is_ready
        self._note(service, state, _offer_in(pages, pins))

    def _note(self, service: str, state: ServiceState, offer: Offer) -> None:
        before, state.offer = state.offer, offer
        state.seen_at = datetime.now(UTC)
        self._held.labels(dep=service).set(len(offer.held))
        for tool in sorted(offer.held - before.held):
            log.warning("tool_definition_changed", service=service, tool=tool, held=True)
        if offer != before:
            log.info(
                "catalogue_changed",
                service=service,
                version=offer.version,
                tools=len(offer.tools),
            )
            self._tell()

    def _tell(self) -> None:
        for tell in self.on_change:
            tell()

    async def _judged(self, service: str, tools: Page) -> Pins:
        seen: Digests = {Definition(tools.version, row.key): row.digest for row in tools.rows}
        try:
            pins = await self._pins.judge(service, seen)
            if pins.held and not self._holds:
                pins = await self._accepted(service, seen, pins)
        except (*REDIS_AWAY, ValueError) as exc:
            # The pins of the last look still hold; what is new now is pinned at the next one.
            log.warning("pins_unavailable", service=service, error=type(exc).__name__)
            pins = self._known_pins.get(service, Pins())
            pins.judge(seen)
        self._known_pins[service] = pins
        return pins

    async def _accepted(self, service: str, seen: Digests, pins: Pins) -> Pins:
        for definition in pins.held:
            log.warning(
                "tool_definition_changed", service=service, tool=definition.tool, held=False
            )
            await self._pins.accept(service, definition.tool)
        return await self._pins.judge(service, seen)


def _offer_in(pages: Mapping[str, Page], pins: Pins) -> Offer:
    tools = pages["tools/list"]
    held = frozenset(definition.tool for definition in pins.held)
    uris = [row.key for row in pages["resources/list"].rows]
    uris += [row.key for row in pages["resources/templates/list"].rows]
    return Offer(
        version=tools.version,
        tools=frozenset(
            row.key
            for row in tools.rows
            if not row.key.startswith("fleet_") and row.key not in held
        ),
        prompts=frozenset(row.key for row in pages["prompts/list"].rows),
        schemes=frozenset(uri.partition("://")[0] for uri in uris),
        repeatable=frozenset(row.key for row in tools.rows if _is_repeatable(row)),
        held=held,
        digest=_digest_of(pages),
    )


def _is_repeatable(tool: Row) -> bool:
    annotations = tool.parsed().get("annotations") or {}
    return annotations.get("readOnlyHint") is True or annotations.get("idempotentHint") is True


def _digest_of(pages: Mapping[str, Page]) -> int:
    return hash(tuple(row for page in pages.values() for row in page.rows))
