"""One HPA: metrics in, a replica count out, every sync period (kubernetes `reconcileAutoscaler`).

The greatest proposal wins. A metric that cannot be read lets the others grow the fleet, and forbids them to shrink it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fleet_autoscale.hpa.behavior import (
    Behavior,
    Condition,
    History,
    Recommendation,
    limit,
    limit_fixed,
    record,
    stabilize,
    stabilize_down,
)
from fleet_autoscale.hpa.pods import Pod, Sample, Startup
from fleet_autoscale.hpa.replicas import (
    MetricMissing,
    Tolerance,
    from_average,
    from_pods,
    from_value,
)


@dataclass(frozen=True, slots=True)
class PerPod:
    """A figure per pod: a resource as a percentage of its request, or a plain value."""

    samples: Mapping[str, Sample]
    target: float
    of_request: bool = False


@dataclass(frozen=True, slots=True)
class Ratio:
    """An object's or external metric with a `Value` target."""

    value: float
    target: float


@dataclass(frozen=True, slots=True)
class Average:
    """An object's or external metric with an `AverageValue` target: each replica's share of `total`."""

    total: float
    target: float


@dataclass(frozen=True, slots=True)
class Unknown:
    """A metric that could not be read."""


Metric = PerPod | Ratio | Average | Unknown


@dataclass(slots=True)
class Hpa:
    """A HorizontalPodAutoscaler and what its controller remembers of it.

    Args:
        minimum: minReplicas.
        maximum: maxReplicas.
        behavior: rates and windows; None for the controller's fixed rules.
        tolerance: used without a behavior; each direction of a behavior has its own.
        startup: when a starting pod's CPU counts.
        history: None before the first reconciliation.
    """

    minimum: int
    maximum: int
    behavior: Behavior | None = None
    tolerance: Tolerance = field(default_factory=Tolerance)
    startup: Startup = field(default_factory=Startup)
    history: History | None = None
    condition: Condition | None = None
    """Why the last count was what it was; None where the metrics had no say."""

    def reconcile(
        self,
        metrics: Sequence[Metric],
        *,
        pods: Sequence[Pod],
        current: int,
        now_s: float,
        status: int | None = None,
    ) -> int:
        """Return the replicas to ask for now.

        Args:
            metrics: this moment's figures.
            pods: all pods of the scale target.
            current: the replicas it asks for now.
            now_s: the time, in seconds.
            status: the replicas it has, when these differ (a rolling update's surge).
        """
        if self.history is None:
            self.history = History([Recommendation(current, now_s)])
        desired = self._desired(
            metrics, pods, current, now_s, current if status is None else status
        )
        if desired != current and self.behavior:
            record(self.history, before=current, after=desired, behavior=self.behavior, now_s=now_s)
        return desired

    def _desired(
        self,
        metrics: Sequence[Metric],
        pods: Sequence[Pod],
        current: int,
        now_s: float,
        status: int,
    ) -> int:
        self.condition = None
        if current == 0 and self.minimum != 0:
            return 0  # scaled to zero by hand: autoscaling is off
        if not self.minimum <= current <= self.maximum:
            return min(max(current, self.minimum), self.maximum)
        proposals = [self._proposal(each, pods, current, now_s, status) for each in metrics]
        known = [each for each in proposals if each is not None]
        if not known or (len(known) < len(proposals) and max(known) < current):
            return current
        return self._normalize(max(known), current, now_s)

    def _normalize(self, desired: int, current: int, now_s: float) -> int:
        history = self.history or History()
        bounds = {"current": current, "minimum": self.minimum, "maximum": self.maximum}
        if self.behavior is None:
            desired = stabilize_down(history, desired, now_s=now_s)
            desired, self.condition = limit_fixed(desired, **bounds)
            return desired
        desired = stabilize(history, desired, current=current, behavior=self.behavior, now_s=now_s)
        desired, self.condition = limit(
            history, desired, **bounds, behavior=self.behavior, now_s=now_s
        )
        return desired

    def _proposal(
        self, metric: Metric, pods: Sequence[Pod], current: int, now_s: float, status: int
    ) -> int | None:
        tolerance = self.tolerance
        if self.behavior:
            tolerance = Tolerance(self.behavior.up.tolerance, self.behavior.down.tolerance)
        match metric:
            case Unknown():
                return None
            case Average(total, target):
                return from_average(total, target, replicas=status, tolerance=tolerance)
            case Ratio(value, target):
                ready = sum(pod.serves for pod in pods)
                return from_value(value, target, ready=ready, current=current, tolerance=tolerance)
            case PerPod(samples, target, of_request):
                try:
                    return from_pods(
                        pods,
                        samples,
                        target=target,
                        of_request=of_request,
                        current=current,
                        now_s=now_s,
                        tolerance=tolerance,
                        startup=self.startup,
                    )
                except MetricMissing:
                    return None
