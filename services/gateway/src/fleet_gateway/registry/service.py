"""The registry: looks at each service's catalogue every few seconds and answers who owns a name.

A service that does not answer keeps its last catalogue: its calls then fail as `unavailable`, which a client
may retry, instead of as an unknown tool, which it would not.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import structlog

from fleet_common.auth import Principal
from fleet_common.errors import FleetError, Unavailable, UpstreamFailed
from fleet_common.policy import REGISTRY_ROLE
from fleet_gateway.registry.models import Catalogue, Offer
from fleet_gateway.routing.client import Forwarder
from fleet_gateway.routing.models import LISTS

log = structlog.get_logger()

# Sees every name there is, whatever the policy says, and may call nothing.
_REGISTRAR = Principal(
    subject="fleet-gateway",
    tenant="",
    roles=frozenset({REGISTRY_ROLE}),
    kind="internal",
)
# A gateway that starts with the fleet waits this long for its services; one that starts while a service is
# down must not wait for it.
_SETTLE_S = 15.0
_HEADERS = {
    "content-type": "application/json",
    "accept": "application/json, text/event-stream",
    "mcp-protocol-version": "2025-11-25",
}


class Registry:
    """What each service offers, as of the last look."""

    def __init__(
        self,
        catalogue: Catalogue,
        forwarder: Forwarder,
        *,
        refresh_s: float,
        list_timeout_s: float,
    ) -> None:
        self.catalogue = catalogue
        self._forwarder = forwarder
        self._refresh_s = refresh_s
        self._list_timeout_s = list_timeout_s
        self._looking = asyncio.Lock()
        self._looked_at = float("-inf")
        self._began = time.monotonic()

    @asynccontextmanager
    async def watching(self) -> AsyncGenerator[None]:
        """Look now, and again every `refresh_s` seconds while the block runs."""
        await self.refresh()
        task = asyncio.create_task(self._watch(), name="registry")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def settled(self) -> None:
        """Return once every service was seen, or long enough was waited for those that are away.

        Raises:
            Unavailable: a service has not answered yet, and the gateway is young.
        """
        unseen = self.catalogue.unseen()
        if unseen and time.monotonic() - self._began < _SETTLE_S:
            raise Unavailable(f"the {unseen} service")

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
                for service in self.catalogue.services:
                    group.create_task(self._look_at(service), name=f"look-at-{service}")
            self._looked_at = time.monotonic()

    async def _watch(self) -> None:
        while True:
            # Services that have never answered are starting: ask them often.
            is_new = self.catalogue.unseen() is not None
            await asyncio.sleep(min(0.25, self._refresh_s) if is_new else self._refresh_s)
            await self.refresh()

    async def _look_at(self, service: str) -> None:
        state = self.catalogue.services[service]
        try:
            async with asyncio.timeout(self._list_timeout_s):
                offer = await self._offer(service)
                state.is_ready = await self._forwarder.alive(service)
        except (FleetError, TimeoutError) as exc:
            if state.is_ready:
                log.warning("service_lost", service=service, error=type(exc).__name__)
            state.is_ready = False
            return
        if offer != state.offer:
            log.info("catalogue_changed", service=service, tools=len(offer.tools))
        state.offer, state.seen_at = offer, datetime.now(UTC)

    async def _offer(self, service: str) -> Offer:
        lists = {method: await self._list(service, method) for method in LISTS}
        tools = lists["tools/list"]
        uris = [row["uri"] for row in lists["resources/list"]]
        uris += [row["uriTemplate"] for row in lists["resources/templates/list"]]
        return Offer(
            tools=frozenset(row["name"] for row in tools if not row["name"].startswith("fleet_")),
            prompts=frozenset(row["name"] for row in lists["prompts/list"]),
            schemes=frozenset(uri.partition("://")[0] for uri in uris),
            repeatable=frozenset(row["name"] for row in tools if _is_repeatable(row)),
        )

    async def _list(self, service: str, method: str) -> list[dict[str, Any]]:
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": {}}).encode()
        status, content_type, answer = await self._forwarder.fetch(
            service, _REGISTRAR, body, _HEADERS
        )
        if status != 200:
            raise UpstreamFailed(f"the {service} service answered {status} to {method}")
        rows: list[dict[str, Any]] = message_of(content_type, answer)["result"][LISTS[method]]
        return rows


def _is_repeatable(tool: dict[str, Any]) -> bool:
    annotations = tool.get("annotations") or {}
    return annotations.get("readOnlyHint") is True or annotations.get("idempotentHint") is True


def message_of(content_type: str, body: bytes) -> dict[str, Any]:
    """Return the JSON-RPC answer in a plain or a streamed HTTP answer.

    Raises:
        UpstreamFailed: there is none.
    """
    texts = [body]
    if content_type == "text/event-stream":
        texts = [line[5:] for line in body.splitlines() if line.startswith(b"data:")]
    for text in reversed(texts):
        try:
            message = json.loads(text)
        except ValueError:
            continue
        if isinstance(message, dict) and ("result" in message or "error" in message):
            return message
    raise UpstreamFailed("a service sent an answer that is no JSON-RPC message")
