"""What `simulate` does, apart from reading its options: it needs numba, which is an extra."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from fleet_autoscale.policy import Policy, ServicePolicy
from fleet_autoscale.simulation.model import Faults, Service
from fleet_autoscale.simulation.picture import Picture, write
from fleet_autoscale.simulation.report import compare, plot, table
from fleet_autoscale.simulation.run import Scaler, simulate
from fleet_autoscale.simulation.scalers import KedaScaler, ours, scalers, service_of
from fleet_autoscale.simulation.suite import PODS
from fleet_autoscale.simulation.traces import TRACES, BadTrace, Trace, replay
from fleet_autoscale.simulation.tuning import tune

__all__ = ["BadTrace", "Request", "run"]
_IDLE_S = 300  # where the policy does not say: KEDA's own default
Period = tuple[float, float] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The options of the command."""

    policy: Policy
    name: str
    trace: str
    replay: Path | None
    hours: float
    rate: float | None
    seed: int
    seeds: int
    is_alone: bool
    to_zero: bool
    connections: int
    brownout: Period
    outage: Period
    stale: Period
    full_nodes: Period
    rollout: float | None
    is_fluid: bool | None
    tune: bool
    target: float
    plot: Path | None

    @property
    def service_policy(self) -> ServicePolicy:
        """Return the policy of the service that is meant."""
        return self.policy.services[self.name]

    def service(self) -> Service:
        """Return the service that is simulated."""
        found = service_of(self.name, self.service_policy, self.policy.maximum(self.name))
        return replace(found, connections=self.connections)

    def faults(self) -> Faults:
        """Return what goes wrong."""
        return Faults(
            brownout=self.brownout or (),
            metrics_outage=self.outage or (),
            stale_metrics=self.stale or (),
            full_nodes=self.full_nodes or (),
            rollout_s=self.rollout,
        )


def run(requests: Sequence[Request]) -> str:
    """Return the tables of a simulation for each service, and write its picture.

    Raises:
        BadTrace: there is no such trace, or the file is none.
    """
    reports = [_report(each) for each in requests]
    target = requests[0].plot
    if target:
        write(target, [_drawn(each) for each in requests])
    if len(requests) == 1:
        return reports[0]
    titled = zip(requests, reports, strict=True)
    return "\n\n".join(f"## {each.name}\n\n{text}" for each, text in titled)


def _report(request: Request) -> str:
    service = request.service()
    traffic = _traffic(request, service)
    seeds = range(request.seed, request.seed + request.seeds)
    if request.tune:
        return _tuned(request, [traffic(seed) for seed in seeds])
    makers, faults = _makers(request, service), request.faults()
    return table(compare(service, [traffic], makers, seeds, faults, is_fluid=request.is_fluid))


def _drawn(request: Request) -> Picture:
    service, faults = request.service(), request.faults()
    rates = _traffic(request, service)(request.seed)
    runs = [
        (each().name, simulate(service, rates, each(), seed=request.seed, faults=faults))
        for each in _makers(request, service)
    ]
    return plot(service, rates, runs)


def _makers(request: Request, service: Service) -> list[Callable[[], Scaler]]:
    policy = request.service_policy
    own = partial(ours, service, policy)
    if request.to_zero:
        return [lambda: KedaScaler(own(), cooldown_s=policy.idle_s or _IDLE_S)]
    if request.is_alone:
        return [own]
    names = [each.name for each in scalers(service, policy)]
    return [partial(_named, name, service, policy) for name in names]


def _named(name: str, service: Service, policy: ServicePolicy) -> Scaler:
    return next(each for each in scalers(service, policy) if each.name == name)


def _tuned(request: Request, traces: list[Trace]) -> str:
    found = tune(
        request.name,
        request.service_policy,
        request.policy.maximum(request.name),
        traces,
        target=request.target / 100,
    )
    before, after = replace(found.before, policy="as it is"), replace(found.after, policy="tuned")
    note = "" if after.slo * 100 >= request.target else " (nothing reaches the target)"
    head = f"{found.tried} policies tried{note}. In policy.yaml, for {request.name}:"
    return f"{table([before, after])}\n\n{head}\n{found.text()}"


def _traffic(request: Request, service: Service) -> Callable[[int], Trace]:
    if request.replay:
        rates = replay(request.replay)
        return lambda _: rates
    if request.trace not in TRACES:
        message = f"there is no trace {request.trace!r}; there are: {', '.join(TRACES)}"
        raise BadTrace(message)
    base = request.rate or PODS * 0.7 * service.slots / service.service_s
    return partial(TRACES[request.trace], int(request.hours * 3600), base)
