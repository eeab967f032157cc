"""The endpoints of one service, and which of them takes the next request.

Of two endpoints drawn by chance the one with less to do takes it ("power of two choices"). One that fails is
left alone for a while that grows, unless it would be the last. While there is none, calls are held: a service
that is scaled to zero starts because of them.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncGenerator, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import structlog

from fleet_common.background import background
from fleet_common.clock import Clock
from fleet_common.deadline import remaining
from fleet_common.errors import Unavailable
from fleet_common.http import Breaker, RetryPolicy
from fleet_common.http.breaker import BreakerOpen, Permit
from fleet_common.http.retry import RetryBudget
from fleet_common.metrics import Metrics
from fleet_gateway.balancing.discovery import addresses
from fleet_gateway.balancing.models import Address, Endpoint

log = structlog.get_logger()

_EMPTY_LOOK_S = 0.5  # time between two looks while there is no endpoint
_HELD = 128  # calls that wait for one service; they take slots that calls to others need
# Retries are at most a tenth of all answers; a quiet gateway still has ten a minute.
_BUDGET = RetryPolicy(budget_ratio=0.1, budget_floor=10)


class PoolMetrics:
    """What the pools of one process export."""

    def __init__(self, metrics: Metrics) -> None:
        self.all = metrics
        self.endpoints = metrics.gauge("mcp_gateway_endpoints", "Endpoints by service.", "dep")
        self.seconds = metrics.downstream_seconds
        self.held = metrics.gauge(
            "mcp_gateway_held", "Calls held until the service has an endpoint.", "dep"
        )
        self.retries = metrics.counter(
            "mcp_gateway_retries_total", "Requests sent again, by what went wrong.", "dep", "reason"
        )
        self.ejections = metrics.counter(
            "mcp_gateway_ejections_total", "Endpoints left alone after failures.", "dep"
        )
        self.failures = metrics.counter(
            "mcp_gateway_failures_total", "Requests that ended without a good answer.", "dep"
        )


@dataclass(frozen=True, slots=True)
class PoolOptions:
    """How every pool behaves.

    Attributes:
        discover_s: time between two looks into DNS.
        hold_s: longest time a call waits for a first endpoint; less when its own deadline is nearer.
    """

    discover_s: float = 3.0
    hold_s: float = 30.0


class Pool:
    """The endpoints of one service, its breaker and its retry budget.

    Attributes:
        zones: endpoints by zone, where that is known.
        seconds: where the time of each attempt is noted.
    """

    def __init__(
        self,
        service: str,
        urls: Sequence[str],
        metrics: PoolMetrics,
        options: PoolOptions,
        *,
        clock: Clock = time.monotonic,
    ) -> None:
        self.service = service
        self.endpoints: list[Endpoint] = []
        self.zones: dict[str, int] = {}
        self.seconds = metrics.seconds.labels(dep=service)
        self.breaker = Breaker(clock=clock)
        self.budget = RetryBudget(_BUDGET, clock=clock)
        self._urls = urls
        self._options = options
        self._clock = clock
        self._filled = asyncio.Event()
        self._held = 0
        self._metrics = metrics
        self.breaker.export(metrics.all, service)
        # Series that begin at zero, or a rate would miss the first ones.
        metrics.held.labels(dep=service)
        metrics.ejections.labels(dep=service)
        self._failures = metrics.failures.labels(dep=service)

    @asynccontextmanager
    async def watching(self) -> AsyncGenerator[None]:
        """Look for endpoints now, and again every few seconds while the block runs."""
        await self.discover()
        async with background(self._watch(), name=f"discover-{self.service}"):
            yield

    async def discover(self) -> None:
        """Look for endpoints in DNS once; all stay when it is away."""
        found = await addresses(self._urls)
        if found is not None:
            self.replace(dict.fromkeys(found, ""))

    def replace(self, found: Mapping[Address, str]) -> None:
        """Make these the endpoints, each with its zone; known ones keep their state."""
        known = {endpoint.address: endpoint for endpoint in self.endpoints}
        if found.keys() != known.keys():
            log.info("endpoints_changed", service=self.service, endpoints=len(found))
        self.zones = dict(Counter(zone for zone in found.values() if zone))
        self.endpoints = [
            known.get(address) or Endpoint(address) for address in sorted(found, key=str)
        ]
        self._metrics.endpoints.labels(dep=self.service).set(len(found))
        if self.endpoints:
            self._filled.set()
        else:
            self._filled.clear()

    def permit(self) -> Permit:
        """Return the right to make one call.

        Raises:
            Unavailable: the service has failed so often that it is left alone for a while.
        """
        try:
            return self.breaker.permit()
        except BreakerOpen as exc:
            raise Unavailable(
                f"the {self.service} service", retry_after_s=exc.retry_after_s
            ) from None

    async def choose(self, tried: Collection[Endpoint] = ()) -> Endpoint:
        """Return the endpoint for the next request, preferably none of `tried`.

        Raises:
            Unavailable: there was none in time.
        """
        if not self.endpoints:
            await self._hold()
        if len(self.endpoints) == 1:
            return self.endpoints[0]
        now = self._clock()
        others = [e for e in self.endpoints if e not in tried] or self.endpoints
        usable = [e for e in others if e.out_until <= now] or others
        if len(usable) == 1:
            return usable[0]
        one, other = random.sample(usable, 2)
        return one if one.load(now) <= other.load(now) else other

    def has_other(self, tried: Collection[Endpoint]) -> bool:
        """Return whether there is an endpoint besides `tried`."""
        return any(endpoint not in tried for endpoint in self.endpoints)

    def answered(self, endpoint: Endpoint, seconds: float) -> None:
        """Note an answer whose first byte came after `seconds`."""
        endpoint.answered(seconds, self._clock())

    def failed(self, endpoint: Endpoint, *, is_certain: bool = False) -> None:
        """Note a failure; leaves the endpoint alone for a while unless it is the last one in use."""
        now = self._clock()
        if not endpoint.failed(now, is_certain=is_certain):
            return
        if any(e.out_until <= now for e in self.endpoints if e is not endpoint):
            endpoint.pause(now)
            self._metrics.ejections.labels(dep=self.service).inc()
            log.warning("endpoint_ejected", service=self.service, endpoint=endpoint.address.origin)

    def repeated(self, reason: str) -> None:
        """Count a request that is sent again."""
        self._metrics.retries.labels(dep=self.service, reason=reason).inc()

    def gave_up(self) -> None:
        """Count a request that got no answer, a 5xx, or was shed for good."""
        self._failures.inc()

    @property
    def ejected(self) -> int:
        """How many endpoints are left alone at the moment."""
        now = self._clock()
        return sum(endpoint.out_until > now for endpoint in self.endpoints)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._options.discover_s if self.endpoints else _EMPTY_LOOK_S)
            await self.discover()

    async def _hold(self) -> None:
        with self._counted():
            try:
                async with asyncio.timeout(remaining(self._options.hold_s)):
                    await self._filled.wait()
            except TimeoutError:
                raise self._no_endpoint() from None

    @contextmanager
    def _counted(self) -> Iterator[None]:
        if self._held >= _HELD:
            raise self._no_endpoint()
        gauge = self._metrics.held.labels(dep=self.service)
        self._held += 1
        gauge.set(self._held)
        try:
            yield
        finally:
            self._held -= 1
            gauge.set(self._held)

    def _no_endpoint(self) -> Unavailable:
        return Unavailable(f"the {self.service} service", retry_after_s=2.0)
