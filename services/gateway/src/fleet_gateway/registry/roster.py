"""Which services there are: those of the configuration for good, those of the cluster as they come and go."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field

import structlog

from fleet_gateway.balancing.service import Pool
from fleet_gateway.cluster.models import Found
from fleet_gateway.lists.cache import Source
from fleet_gateway.registry.models import Catalogue, ServiceState

log = structlog.get_logger()


@dataclass(slots=True)
class Roster:
    """What the gateway keeps for each service; everybody shares these objects and sees a change at once.

    Attributes:
        pools: their endpoints.
        sources: who asks them for lists.
        catalogue: what they offer.
        fallbacks: (glob of tool names, service that takes the calls), those of the configuration first.
        create_pool: makes a pool without endpoints.
        create_source: makes what asks for lists.
        on_join: told the name of a service that is new, before calls can find it.
        on_leave: told the name of a service that is gone, after calls can no longer find it.
    """

    pools: MutableMapping[str, Pool]
    sources: MutableMapping[str, Source]
    catalogue: Catalogue
    fallbacks: list[tuple[str, str]]
    create_pool: Callable[[str], Pool]
    create_source: Callable[[str], Source]
    on_join: list[Callable[[str], None]] = field(default_factory=list)
    on_leave: list[Callable[[str], None]] = field(default_factory=list)
    _configured: frozenset[str] = field(init=False)
    _configured_fallbacks: tuple[tuple[str, str], ...] = field(init=False)
    _passed_over: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        self._configured = frozenset(self.pools)
        self._configured_fallbacks = tuple(self.fallbacks)

    def apply(self, found: Mapping[str, Found]) -> None:
        """Make the services of the cluster what `found` says; a name that is configured, too, stays as configured."""
        self._tell_passed_over(found)
        mine = {name: one for name, one in found.items() if name not in self._configured}
        for name in self.pools.keys() - self._configured - mine.keys():
            self._leave(name)
        for name, one in mine.items():
            if name not in self.pools:
                self._join(name)
            self.pools[name].replace(one.endpoints)
            self.catalogue.services[name].labelled_version = one.version
        self.fallbacks[:] = [
            *self._configured_fallbacks,
            *((glob, name) for name, one in mine.items() for glob in one.fallback_for),
        ]

    def _join(self, name: str) -> None:
        log.info("service_joined", service=name)
        self.pools[name] = self.create_pool(name)
        self.sources[name] = self.create_source(name)
        self.catalogue.services[name] = ServiceState()
        for tell in self.on_join:
            tell(name)

    def _leave(self, name: str) -> None:
        log.warning("service_left", service=name)
        self.pools[name].replace({})
        del self.catalogue.services[name], self.sources[name], self.pools[name]
        for tell in self.on_leave:
            tell(name)

    def _tell_passed_over(self, found: Mapping[str, Found]) -> None:
        both = self._configured & found.keys()
        if both != self._passed_over:
            self._passed_over = both
            log.info("service_labels_passed_over", configured=sorted(both))
