"""A copy of what the API server knows of one kind, kept up to date: list once, then watch from there.

As client-go's reflector does it: a watch that ends goes on from the last version seen, bookmarks included; a version
that the server has forgotten (410 Gone) means a new list; whatever fails is tried again, ever less often. The copy
stays as it was while the server is away.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Literal

import structlog

from fleet_common.errors import FleetError
from fleet_common.metrics import Metrics
from fleet_gateway.cluster.client import Change, ClusterApi, Expired, Kind, Object

log = structlog.get_logger()

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 30.0
_SHORT_S = 1.0  # a watch that ends sooner, with nothing in it, is a failure as well


class MirrorMetrics:
    """What the mirrors of one process export."""

    def __init__(self, metrics: Metrics) -> None:
        self.current = metrics.gauge(
            "mcp_gateway_cluster_current",
            "1 while the copy of the cluster's objects is being kept up to date.",
            "kind",
        )


class Mirror:
    """The objects of one kind by name, as of the last event."""

    def __init__(
        self,
        api: ClusterApi,
        kind: Kind,
        tell: Callable[[], None],
        metrics: MirrorMetrics,
    ) -> None:
        self.objects: dict[str, Object] = {}
        self.filled = asyncio.Event()
        self._api = api
        self._kind = kind
        self._tell = tell
        self._metrics = metrics
        self._version: str | None = None
        self._failures = 0

    async def follow(self) -> None:
        """Keep the copy up to date for ever."""
        while True:
            try:
                await self._advance()
            except Expired:
                log.info("cluster_version_expired", kind=self._kind.plural)
                self._version = None
                self._failures += 1
            except FleetError as exc:
                self._failures += 1
                self._mark("stale")
                log.warning(
                    "cluster_unavailable",
                    kind=self._kind.plural,
                    error=str(exc),
                    objects=len(self.objects),
                    failures=self._failures,
                )
            if self._failures:
                await asyncio.sleep(self._pause_s())

    async def _advance(self) -> None:
        if self._version is None:
            await self._list()
        version, began = self._version or "", time.monotonic()
        is_empty = True
        async with self._api.watch(self._kind, version) as changes:
            self._mark("current")
            async for change in changes:
                self._apply(change)
                is_empty, self._failures = False, 0
        was_short = is_empty and time.monotonic() - began < _SHORT_S
        self._failures = self._failures + 1 if was_short else 0

    async def _list(self) -> None:
        items, self._version = await self._api.list(self._kind)
        self.objects = {_name(item): item for item in items}
        self.filled.set()
        self._tell()

    def _apply(self, change: Change) -> None:
        self._version = change.version
        if change.type == "BOOKMARK":
            return
        if change.type == "DELETED":
            self.objects.pop(_name(change.object), None)
        else:
            self.objects[_name(change.object)] = change.object
        self._tell()

    def _mark(self, state: Literal["current", "stale"]) -> None:
        self._metrics.current.labels(kind=self._kind.plural).set(state == "current")

    def _pause_s(self) -> float:
        longest = min(_FIRST_PAUSE_S * 2.0 ** min(self._failures - 1, 16), _LONGEST_PAUSE_S)
        # Half of it by chance, so that all gateways do not come back in the same moment.
        return longest * (0.5 + random.random() / 2)  # noqa: S311 - spreads load, hides nothing


def _name(item: Object) -> str:
    return str(item["metadata"]["name"])
