"""What the gateway's own tools need."""

from __future__ import annotations

from dataclasses import dataclass

from fleet_common.mcp import CurrentDeps
from fleet_gateway.registry.service import Registry


@dataclass(frozen=True, slots=True)
class Deps:
    """Open for the life of the process."""

    registry: Registry


def get_registry(deps: Deps = CurrentDeps()) -> Registry:
    """Return the registry; for `Depends`."""
    return deps.registry
