"""Which pods a metric is averaged over.

A pod that cannot have a meaningful figure yet is set aside, one without a figure is missing, the rest count. CPU is
special: a starting pod burns it on its imports, so its figure counts only once it covers time after readiness
(kubernetes `groupPods`, with the controller's default periods).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

CPU_INITIALIZATION_S = 300.0
"""--horizontal-pod-autoscaler-cpu-initialization-period."""
READINESS_DELAY_S = 30.0
"""--horizontal-pod-autoscaler-initial-readiness-delay."""


class Phase(Enum):
    """A pod's phase, as far as the controller tells them apart."""

    PENDING = "Pending"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True)
class Pod:
    """What the controller sees of a pod. Times are seconds on the caller's clock; None means not known."""

    name: str
    phase: Phase = Phase.RUNNING
    is_ready: bool | None = True
    """The Ready condition; None when the pod has none yet."""
    ready_changed_s: float = 0.0
    started_s: float | None = 0.0
    is_deleted: bool = False
    request: float | None = None
    """The resource request; None when a container has none."""

    @property
    def serves(self) -> bool:
        """Tell whether the pod runs and is ready."""
        return self.phase is Phase.RUNNING and self.is_ready is True


@dataclass(frozen=True, slots=True)
class Sample:
    """One pod's figure, averaged over the window that ended at `at_s`."""

    value: float
    at_s: float = 0.0
    window_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Groups:
    """Pods by what can be said about them: `counted` is a number, the others are names."""

    counted: int
    set_aside: frozenset[str]
    missing: frozenset[str]


@dataclass(frozen=True, slots=True)
class Startup:
    """How long a starting pod's CPU is not believed, in seconds."""

    cpu_initialization_s: float = CPU_INITIALIZATION_S
    readiness_delay_s: float = READINESS_DELAY_S


def group_pods(
    pods: Sequence[Pod],
    samples: Mapping[str, Sample],
    *,
    is_cpu: bool,
    now_s: float,
    startup: Startup,
) -> Groups:
    """Return which pods count for a metric, leaving out those that failed or are being deleted."""
    counted = 0
    set_aside, missing = set[str](), set[str]()
    for pod in pods:
        if pod.is_deleted or pod.phase is Phase.FAILED:
            continue
        if pod.phase is Phase.PENDING:
            set_aside.add(pod.name)
        elif (sample := samples.get(pod.name)) is None:
            missing.add(pod.name)
        elif is_cpu and _is_starting(pod, sample, now_s, startup):
            set_aside.add(pod.name)
        else:
            counted += 1
    return Groups(counted, frozenset(set_aside), frozenset(missing))


def _is_starting(pod: Pod, sample: Sample, now_s: float, startup: Startup) -> bool:
    if pod.is_ready is None or pod.started_s is None:
        return True
    if pod.started_s + startup.cpu_initialization_s > now_s:
        return not pod.is_ready or sample.at_s < pod.ready_changed_s + sample.window_s
    # Unready since it started, so its figure never was one of a serving pod.
    return not pod.is_ready and pod.started_s + startup.readiness_delay_s > pod.ready_changed_s
