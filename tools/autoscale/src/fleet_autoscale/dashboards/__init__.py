"""Grafana dashboards of a fleet, made from a few lines of Python each."""

from __future__ import annotations

from pathlib import Path

from fleet_autoscale.dashboards import fleet, scaling, service, tokens, tools
from fleet_autoscale.dashboards.grid import Dashboard, Document
from fleet_autoscale.policy import Policy

__all__ = ["Document", "dashboards", "files"]


def dashboards(policy: Policy) -> list[Dashboard]:
    """Return them all: the fleet, each service, tools, scaling, tokens."""
    services = [service.dashboard(name, each) for name, each in policy.services.items()]
    return [
        fleet.dashboard(),
        *services,
        tools.dashboard(),
        scaling.dashboard(),
        tokens.dashboard(),
    ]


def files(policy: Policy) -> dict[Path, Document]:
    """Return the JSON of each dashboard by its file name."""
    return {Path(f"{each.uid}.json"): each.document() for each in dashboards(policy)}
