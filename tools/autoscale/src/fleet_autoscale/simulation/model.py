"""What is simulated: one service's pods, and what goes wrong around them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

_QUANTILES = 8192  # a table that stays in the first-level cache, and reaches the 99.99th percentile


@dataclass(frozen=True, slots=True)
class Service:
    """A service as capacity planning sees it. Times are seconds."""

    name: str
    service_s: float
    """Mean time in a slot."""
    slots: int
    queue: int
    """Calls that wait in a pod at most."""
    start_s: float
    """From the decision to a ready pod: scheduling, image, imports, model."""
    slo_s: float
    sigma: float = 0.5
    """Of the logarithm of the time in a slot."""
    minimum: int = 2
    maximum: int = 120
    hold_s: float = 30.0
    """How long the gateway holds a call while no pod is ready."""
    connections: int = 0
    """Connections to the downstream, for all pods together; 0 where there is no such limit."""
    downstream_share: float = 0.6
    """Part of the time in a slot that holds one of these connections."""

    @property
    def wait_s(self) -> float:
        """Return the longest wait that still leaves time to answer: the objective less a typical service time."""
        return max(self.slo_s - self.service_s, self.service_s)

    def quantiles(self) -> NDArray[np.float64]:
        """Return equally likely service times: a log-normal distribution with our mean."""
        normal = NormalDist(math.log(self.service_s) - self.sigma**2 / 2, self.sigma)
        middles = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
        found: NDArray[np.float64] = np.exp([normal.inv_cdf(each) for each in middles])
        return found

    def attainable(self) -> float:
        """Return the share of calls that meet the objective when nothing ever waits."""
        return float(np.mean(self.quantiles() <= self.slo_s))

    def oracle_pods(self, rates: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the pods of somebody who knows the future and starts pods at once, at 85 % of the slots.

        Args:
            rates: calls per second, one figure a second.
        """
        needed: NDArray[np.float64] = np.ceil(rates * self.service_s / (0.85 * self.slots))
        return np.maximum(needed, 1.0)


@dataclass(frozen=True, slots=True)
class Faults:
    """What goes wrong; each period is (from, to) in seconds, () for never."""

    brownout: tuple[float, float] | tuple[()] = ()
    brownout_factor: float = 4.0
    """How much longer a call takes while the downstream is slow."""
    metrics_outage: tuple[float, float] | tuple[()] = ()
    """Prometheus does not answer."""
    stale_metrics: tuple[float, float] | tuple[()] = ()
    """Prometheus answers, but has seen nothing new: the last sample for five minutes, then nothing."""
    rollout_s: float | None = None
    """When a new version starts to replace every pod, a quarter at a time."""
    full_nodes: tuple[float, float] | tuple[()] = ()
    """No node has room: a pod that is asked for meanwhile waits `node_s` for a new one."""
    node_s: float = 90.0
