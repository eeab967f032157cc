"""What the gateway's own tools need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fleet_common.mcp import CurrentDeps
from fleet_gateway.balancing.service import Pool
from fleet_gateway.cluster.service import Cluster
from fleet_gateway.lists.cache import ListCache
from fleet_gateway.registry.service import Registry


@dataclass(frozen=True, slots=True)
class Deps:
    """Open for the life of the process."""

    registry: Registry
    pools: Mapping[str, Pool]
    lists: ListCache
    cluster: Cluster | None


def get_deps(deps: Deps = CurrentDeps()) -> Deps:
    """Return everything; for `Depends`."""
    return deps
