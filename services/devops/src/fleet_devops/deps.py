"""What the tools work with, opened once per process."""

from __future__ import annotations

from dataclasses import dataclass

from fleet_common.mcp import CurrentDeps
from fleet_devops.cluster.service import Cluster
from fleet_devops.github.events import GitHubEvents
from fleet_devops.github.service import GitHub
from fleet_devops.monitoring.service import Monitoring


@dataclass(frozen=True, slots=True)
class Deps:
    """One of each; none of them needs its upstream to be there when the process starts."""

    github: GitHub
    cluster: Cluster
    monitoring: Monitoring
    github_events: GitHubEvents


def get_github(deps: Deps = CurrentDeps()) -> GitHub:
    """Return what reads GitHub."""
    return deps.github


def get_cluster(deps: Deps = CurrentDeps()) -> Cluster:
    """Return what reads the cluster."""
    return deps.cluster


def get_monitoring(deps: Deps = CurrentDeps()) -> Monitoring:
    """Return what asks Prometheus."""
    return deps.monitoring
