"""The autoscalers to compare: the fleet's own, and what others ship."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from fleet_autoscale.hpa import Average, Hpa, Metric, PerPod, Phase, Pod, Ratio, Sample, Unknown
from fleet_autoscale.policy import POLL_S, ServicePolicy
from fleet_autoscale.rendering.rules import GATE_WINDOW_S, PRESSURE_LIMIT
from fleet_autoscale.simulation.model import Service
from fleet_autoscale.simulation.run import Scaler, View


@dataclass(slots=True)
class HpaScaler:
    """An HPA on metrics that `read` returns; None there means that they cannot be read."""

    name: str
    hpa: Hpa
    read: Callable[[View], Sequence[Metric]]
    period_s: float = 15.0
    scrape_s: float = 15.0

    def replicas(self, view: View) -> int:
        """Return what the controller asks for at this sync."""
        metrics = self.read(view)
        # A demand that is divided by a target asks no pods: with thousands of these it saves minutes.
        pods = [] if all(isinstance(each, Average) for each in metrics) else _pods(view)
        return self.hpa.reconcile(
            metrics, pods=pods, current=view.deployment.wanted, now_s=view.now_s
        )


@dataclass(slots=True)
class KedaScaler:
    """KEDA around an HPA: it alone scales to zero and back to the floor; the HPA does the rest.

    Zero comes after `cooldown_s` without a call; a held call brings the floor back at the next poll.
    """

    inner: HpaScaler
    cooldown_s: float = 300.0
    period_s: float = float(POLL_S)
    name: str = field(init=False)
    scrape_s: float = field(init=False)
    _active_s: float = 0.0
    _synced_s: float = 0.0

    def __post_init__(self) -> None:
        """Take over the inner scaler's name and scrapes."""
        self.name, self.scrape_s = f"{self.inner.name}, to zero", self.inner.scrape_s

    def replicas(self, view: View) -> int:
        """Return zero when idle, the floor when woken, else what the HPA asks for at its own syncs."""
        at = view.meter.as_of(view.now_s)
        if at is None or view.held or view.meter.demand_rate(at) > 0:
            self._active_s = view.now_s
        if view.deployment.wanted == 0:
            return self.inner.hpa.minimum if view.held else 0
        if view.now_s - self._active_s >= self.cooldown_s:
            return 0
        if view.now_s - self._synced_s < self.inner.period_s:
            return view.deployment.wanted
        self._synced_s = view.now_s
        return self.inner.replicas(view)


@dataclass(slots=True)
class Kpa:
    """Knative's pod autoscaler: concurrency over 60 s, over 6 s in a panic, every 2 s, without an activator.

    Defaults of config-autoscaler: target 70 %, panic at 200 %, at most tenfold up and half down a step.
    """

    service: Service
    name: str = "KPA"
    period_s: float = 2.0
    scrape_s: float = 1.0
    _panic_until_s: float = -1.0
    _panic_pods: int = 0

    def replicas(self, view: View) -> int:
        """Return what the stable window asks for, in a panic never less than before."""
        at = view.meter.as_of(view.now_s)
        if at is None:
            return view.deployment.wanted
        target = 0.7 * self.service.slots
        ready = max(len(view.deployment.ready(view.now_s)), 1)
        stable, panic = (math.ceil(view.meter.mean_inflight(at, s) / target) for s in (60, 6))
        if panic >= 2 * ready:
            self._panic_until_s = view.now_s + 60.0
        if view.now_s < self._panic_until_s:
            self._panic_pods = max(self._panic_pods, panic, view.deployment.wanted)
            wanted = self._panic_pods
        else:
            self._panic_pods = 0
            wanted = max(stable, ready // 2)
        return min(max(wanted, self.service.minimum), self.service.maximum)


def scalers(service: Service, policy: ServicePolicy) -> list[Scaler]:
    """Return fresh autoscalers for one service, the fleet's own last."""
    return [
        cpu(service, 90),
        cpu(service, 70),
        raw_p95(service),
        in_flight(service),
        Kpa(service),
        ours(service, policy),
    ]


def cpu(service: Service, percent: int) -> HpaScaler:
    """Return an HPA on CPU, generously: CPU in proportion to the slots in use, pods alike."""

    def read(view: View) -> Sequence[Metric]:
        at = view.meter.as_of(view.now_s)
        ready = [str(row) for row in view.deployment.ready(view.now_s)]
        if at is None or not ready:
            return [Unknown()]
        used = 100 * view.meter.mean_busy(at, 15) / service.slots / len(ready)
        sample = Sample(used, at_s=view.now_s, window_s=15.0)
        return [PerPod(dict.fromkeys(ready, sample), percent, of_request=True)]

    return HpaScaler(f"CPU {percent} %", Hpa(service.minimum, service.maximum), read)


def raw_p95(service: Service) -> HpaScaler:
    """Return an HPA that wants the 95th percentile at the objective."""

    def read(view: View) -> Sequence[Metric]:
        at = view.meter.as_of(view.now_s)
        p95 = None if at is None else view.meter.p95(at)
        return [Unknown() if p95 is None else Ratio(p95, 1.0)]

    return HpaScaler("raw p95", Hpa(service.minimum, service.maximum), read)


def in_flight(service: Service) -> HpaScaler:
    """Return an HPA on calls in pods, at 70 % of the slots."""

    def read(view: View) -> Sequence[Metric]:
        at = view.meter.as_of(view.now_s)
        if at is None:
            return [Unknown()]
        calls = view.meter.inflight(at) + view.meter.waiting(at)
        return [Average(calls, 0.7 * service.slots)]

    return HpaScaler("in flight 70 %", Hpa(service.minimum, service.maximum), read)


def ours(service: Service, policy: ServicePolicy) -> HpaScaler:
    """Return the fleet's policy, as `rendering/rules.py` writes it down for Prometheus: one demand, in slots."""

    def read(view: View) -> Sequence[Metric]:
        at = view.meter.as_of(view.now_s)
        return [
            Unknown() if at is None else Average(_required_slots(view, at, policy), service.slots)
        ]

    hpa = Hpa(service.minimum, service.maximum, policy.behavior())
    return HpaScaler("fleet", hpa, read, scrape_s=5.0)


def _required_slots(view: View, at: int, policy: ServicePolicy) -> float:
    demand, meter = policy.demand, view.meter
    mean_s = meter.mean_service_s(at, policy.measured.service_s)
    believed_s = min(mean_s, demand.slowdown * policy.measured.service_s)
    waiting = meter.waiting(at)
    needed = meter.demand_rate(at) * believed_s / demand.utilization
    needed += waiting * believed_s / demand.drain_s
    # A queue behind a slow downstream is no reason: more pods would wait for the same thing.
    recent_s = meter.mean_service_s(at, policy.measured.service_s, GATE_WINDOW_S)
    is_local = waiting > 0 and recent_s <= demand.slowdown * policy.measured.service_s
    pressure = min(meter.p95(at) or 0.0, PRESSURE_LIMIT) if is_local else 0.0
    present = len(view.deployment.ready(view.now_s)) * policy.slots
    return max(needed, pressure * present)


def service_of(name: str, policy: ServicePolicy, maximum: int) -> Service:
    """Return what the policy says of a service, as the simulator wants it."""
    return Service(
        name,
        service_s=policy.measured.service_s,
        slots=policy.slots,
        queue=policy.queue,
        start_s=policy.measured.start_s,
        slo_s=policy.slo_s,
        minimum=policy.floor,
        maximum=maximum,
    )


def _pods(view: View) -> list[Pod]:
    return [
        Pod(
            str(pod.row),
            phase=Phase.RUNNING,
            is_ready=pod.ready_s <= view.now_s,
            started_s=pod.created_s,
            ready_changed_s=pod.ready_s if pod.ready_s <= view.now_s else pod.created_s,
            request=100.0,
        )
        for pod in view.deployment.pods
    ]
