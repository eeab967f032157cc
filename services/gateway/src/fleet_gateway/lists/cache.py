"""Merged lists by authorization scope: what two callers share is decided by tenant, roles, scopes and policy alone.

A list is asked for once per scope, however many callers wait for it. After five seconds the next caller still
gets it at once and it is asked for again behind the answer. A service that is slow or away contributes what it
showed this scope last.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TypeAlias

import structlog

from fleet_common.auth import Principal
from fleet_common.clock import Clock
from fleet_common.errors import FleetError, Unavailable
from fleet_common.policy import Policy, PolicyFile
from fleet_gateway.lists.models import Merged, Page, Row

log = structlog.get_logger()

Source = Callable[[str, Principal], Awaitable[Page]]
"""Returns what one server shows a caller, by method such as `tools/list`."""
Offered = Callable[[str, str, Row], bool]
"""Tells whether a row may be shown, by source and method."""

Key: TypeAlias = tuple[str, str, frozenset[str], frozenset[str] | None]
_FRESH_S, _INCOMPLETE_FRESH_S = 5.0, 1.0
_STALE_S = 300.0  # whoever comes after so long waits for a new list
_SCOPES = 4096


class ListCache:
    """The merged lists of all scopes that were asked for lately."""

    def __init__(
        self,
        sources: Mapping[str, Source],
        policy: PolicyFile,
        *,
        is_offered: Offered,
        timeout_s: float,
        clock: Clock = time.monotonic,
    ) -> None:
        self._sources = sources
        self._leading: dict[str, Source] = {}
        self._policy = policy
        self._is_offered = is_offered
        self._timeout_s = timeout_s
        self._clock = clock
        self._known: OrderedDict[Key, Merged] = OrderedDict()
        self._known_under: Policy | None = None
        self._changes = 0
        self._looks: dict[Key, asyncio.Task[Merged]] = {}
        self._running: set[asyncio.Task[Merged]] = set()
        self._is_open = False

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[None]:
        """Look for lists in the background while the block runs."""
        # No task group: a look that fails must not end the block.
        self._is_open = True
        try:
            yield
        finally:
            self._is_open = False
            for look in self._running:
                look.cancel()
            await asyncio.gather(*self._running, return_exceptions=True)

    def lead_with(self, source: str, ask: Source) -> None:
        """Ask this source, too, and let its rows win over those of the others."""
        self._leading[source] = ask

    async def get(self, method: str, principal: Principal) -> Merged:
        """Return the list of `method` for callers like `principal`.

        Raises:
            Unavailable: the gateway is not open.
        """
        if self._policy.current is not self._known_under:
            self._forget_other_policies()
        key = (method, principal.tenant, principal.roles, principal.scopes)
        known = self._known.get(key)
        age_s = self._clock() - known.looked_at if known else _STALE_S
        if known is None or age_s >= _STALE_S or self._is_outdated(known):
            merged = await asyncio.shield(self._look(key, principal))
            if self._is_outdated(merged):  # it was asked for before something changed
                merged = await asyncio.shield(self._look(key, principal))
            return merged
        self._known.move_to_end(key)
        if age_s >= (_FRESH_S if known.is_complete else _INCOMPLETE_FRESH_S):
            self._look(key, principal)
        return known

    def expire(self) -> None:
        """Ask again for each list before it is given out: something has changed, and clients are told so."""
        self._changes += 1

    def now(self) -> float:
        """Return the time that the lists' ages are measured by."""
        return self._clock()

    def _is_outdated(self, merged: Merged) -> bool:
        return merged.changes < self._changes

    def _forget_other_policies(self) -> None:
        # Not even a stale list may show what the policy has taken away.
        self._known.clear()
        self._looks.clear()
        self._known_under = self._policy.current

    def _look(self, key: Key, principal: Principal) -> asyncio.Task[Merged]:
        look = self._looks.get(key)
        if look is None:
            if not self._is_open:
                raise Unavailable("the gateway")
            look = self._looks[key] = asyncio.create_task(
                self._ask_all(key, principal), name=f"list-{key[0]}"
            )
            self._running.add(look)
            look.add_done_callback(lambda done: self._forget_look(key, done))
        return look

    def _forget_look(self, key: Key, look: asyncio.Task[Merged]) -> None:
        self._running.discard(look)
        if self._looks.get(key) is look:
            del self._looks[key]
        if not look.cancelled() and (failure := look.exception()) is not None:
            log.error("list_failed", method=key[0], exc_info=failure)

    async def _ask_all(self, key: Key, principal: Principal) -> Merged:
        policy, before = self._policy.current, self._known.get(key)
        changes, began = self._changes, self._clock()
        async with asyncio.TaskGroup() as group:
            asked = {
                name: group.create_task(self._ask(name, source, key[0], principal))
                for name, source in {**self._leading, **self._sources}.items()
            }
        pages = {source: task.result() for source, task in asked.items()}
        merged = Merged(
            {
                source: page or (before.pages.get(source, Page(())) if before else Page(()))
                for source, page in pages.items()
            },
            is_complete=None not in pages.values(),
            looked_at=began,
            changes=changes,
        )
        if policy is self._known_under:
            self._known[key] = merged
            while len(self._known) > _SCOPES:
                self._known.popitem(last=False)
        return merged

    async def _ask(
        self, name: str, source: Source, method: str, principal: Principal
    ) -> Page | None:
        try:
            async with asyncio.timeout(self._timeout_s):
                page = await source(method, principal)
        except (FleetError, TimeoutError) as exc:
            log.warning("list_incomplete", service=name, error=type(exc).__name__)
            return None
        rows = tuple(row for row in page.rows if self._is_offered(name, method, row))
        return Page(rows, page.ttl_s, page.version)
