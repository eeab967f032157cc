"""The pods of a simulated deployment: started, ready, rolled, drained, paid for."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fleet_autoscale.simulation.kernel import FREE, MEAN_S
from fleet_autoscale.simulation.model import Service


@dataclass(slots=True)
class Running:
    """A pod and the row of the kernel's arrays it uses."""

    row: int
    created_s: float
    ready_s: float
    version: int


@dataclass(slots=True)
class Deployment:
    """Rows of pods that the kernel serves with, and what they cost."""

    service: Service
    rows: NDArray[np.float64] = field(init=False)
    pods: list[Running] = field(default_factory=list)
    wanted: int = 0
    version: int = 0
    pod_seconds: float = 0.0
    full_nodes: tuple[float, float] | tuple[()] = ()
    node_s: float = 0.0
    _free: list[int] = field(init=False)
    _draining: list[tuple[float, int]] = field(
        default_factory=list
    )  # a heap: when its last call ends, the row

    def __post_init__(self) -> None:
        """Make room for three times the maximum: pods of a rolling update and those that drain keep their row."""
        count = 3 * self.service.maximum + 8
        self._free = list(reversed(range(count)))
        self.rows = np.zeros((count, FREE + self.service.slots + self.service.queue))

    def ready(self, now_s: float) -> NDArray[np.int64]:
        """Return the rows of the pods that serve at `now_s`."""
        return np.array([pod.row for pod in self.pods if pod.ready_s <= now_s], dtype=np.int64)

    def next_ready_s(self, now_s: float) -> float:
        """Return when the next pod becomes ready; infinity when none is starting."""
        return min((pod.ready_s for pod in self.pods if pod.ready_s > now_s), default=np.inf)

    def scale(self, wanted: int, now_s: float) -> None:
        """Ask for `wanted` pods: start what lacks; end the youngest of what is too many, unready ones first."""
        self.wanted = wanted
        self.step(now_s)

    def roll(self, now_s: float) -> None:
        """Begin to replace every pod with a new version."""
        self.version += 1
        self.step(now_s)

    def start_ready(self, count: int) -> None:
        """Begin the simulation with `count` pods that serve."""
        self.scale(count, 0.0)
        for pod in self.pods:
            pod.ready_s = 0.0

    def step(self, now_s: float) -> None:
        """Do what a Deployment's controller does now: start, replace and end pods, a quarter of them at a time.

        maxSurge is 25 % and maxUnavailable 0: an old pod goes when a new one is ready.
        """
        is_rolling = any(pod.version < self.version for pod in self.pods)
        if not is_rolling and len(self.pods) == self.wanted:
            return
        surge = -(-self.wanted // 4) if is_rolling else 0
        new = sum(pod.version == self.version for pod in self.pods)
        while len(self.pods) < self.wanted + surge and new < self.wanted:
            self._start(now_s)
            new += 1
        serving = sum(pod.ready_s <= now_s for pod in self.pods)
        for pod in sorted(self.pods, key=lambda pod: (pod.version, -pod.ready_s)):
            is_ready = pod.ready_s <= now_s
            is_old = pod.version < self.version and (not is_ready or serving > self.wanted)
            if len(self.pods) > self.wanted + surge or is_old:
                self._end(pod, now_s)
                serving -= is_ready

    def _start(self, now_s: float) -> None:
        while self._draining and self._draining[0][0] <= now_s:
            self._free.append(heapq.heappop(self._draining)[1])
        row = self._free.pop()
        self.rows[row] = 0.0
        self.rows[row, MEAN_S] = self.service.service_s
        full = self.full_nodes
        waits_s = self.node_s if full and full[0] <= now_s < full[1] else 0.0
        ready_s = now_s + waits_s + self.service.start_s
        # A pod that waits for its node costs nothing yet.
        self.pods.append(Running(row, now_s + waits_s, ready_s, self.version))

    def _end(self, pod: Running, now_s: float) -> None:
        """Take a pod from the balancer; it finishes what it has, and is paid for until then."""
        self.pods.remove(pod)
        until = max(now_s, float(self.rows[pod.row, FREE : FREE + self.service.slots].max()))
        heapq.heappush(self._draining, (until, pod.row))
        self.pod_seconds += max(0.0, until - pod.created_s)

    def close(self, now_s: float) -> None:
        """Pay for the pods that run at the end."""
        self.pod_seconds += sum(max(0.0, now_s - pod.created_s) for pod in self.pods)
