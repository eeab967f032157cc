"""Keeps the roster of services what the cluster says it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager, suppress

import structlog

from fleet_common.background import background
from fleet_common.errors import Unavailable
from fleet_common.metrics import Metrics
from fleet_gateway.cluster.client import ClusterApi
from fleet_gateway.cluster.mirror import Mirror, MirrorMetrics
from fleet_gateway.cluster.models import SERVICES, SLICES, Found, found_in

log = structlog.get_logger()

_FIRST_LOOK_S = 5.0  # a gateway that starts while the API server is away must start all the same


class Cluster:
    """Services with our label and their ready pods, as they come and go."""

    def __init__(
        self, api: ClusterApi, apply: Callable[[Mapping[str, Found]], None], metrics: Metrics
    ) -> None:
        exported = MirrorMetrics(metrics)
        self._api = api
        self._apply = apply
        self._services = Mirror(api, SERVICES, self._changed, exported)
        self._slices = Mirror(api, SLICES, self._changed, exported)

    @asynccontextmanager
    async def watching(self) -> AsyncGenerator[None]:
        """Apply what there is now, and every change while the block runs."""
        async with (
            self._api.opened(),
            background(self._services.follow(), name="follow-services"),
            background(self._slices.follow(), name="follow-endpointslices"),
        ):
            with suppress(TimeoutError):
                async with asyncio.timeout(_FIRST_LOOK_S):
                    await self._services.filled.wait()
                    await self._slices.filled.wait()
            if not self._is_seen():
                log.error("cluster_not_seen", seconds=_FIRST_LOOK_S)
            yield

    async def seen(self) -> None:
        """Return if the cluster was ever seen; afterwards the last state holds.

        Raises:
            Unavailable: it was not, so that the gateway cannot know its services.
        """
        if not self._is_seen():
            raise Unavailable("the Kubernetes API")

    def _is_seen(self) -> bool:
        return self._services.filled.is_set() and self._slices.filled.is_set()

    def _changed(self) -> None:
        if self._is_seen():
            self._apply(
                found_in(
                    self._services.objects.values(),
                    self._slices.objects.values(),
                    self._api.namespace,
                )
            )
