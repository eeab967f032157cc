"""The scaling policy on twenty kinds of traffic, ten seeds each, beside what others ship; and the simulator's speed.

Every policy but ours runs with one seed: they are there for comparison, and a call costs the same time for all.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from bench.report import Report
from fleet_autoscale.policy import Policy, load
from fleet_autoscale.simulation import Faults, Scaler, Service, simulate
from fleet_autoscale.simulation.report import Score, compare
from fleet_autoscale.simulation.scalers import ours, scalers, service_of
from fleet_autoscale.simulation.suite import HOURS, PODS, SEEDS, SUITE
from fleet_autoscale.simulation.traces import Trace, diurnal

SERVICES = ("data", "devops", "aiml")
BROWNOUT = (1200.0, 1800.0)


def run() -> Report:
    policy = load()
    figures: dict[str, float | None] = {}
    rows = ["| service | policy | SLO | of accepted | x oracle | reversals | most pods |"]
    rows.append("|---|---|---|---|---|---|---|")
    for name in SERVICES:
        scores = _scores(policy, name)
        rows += [_row(name, each) for each in scores]
        figures |= {f"{name}_slo": 100 * scores[-1].slo, f"{name}_cost": scores[-1].cost}
    figures["brownout_pods"] = max(brownout_pods(policy, name) for name in SERVICES)
    figures["requests_per_cpu_s"] = requests_per_cpu_s(policy)
    rows += ["", "| | |", "|---|---|", *_facts(figures), _day(policy)]
    return Report(
        {name: value and round(value, 3) for name, value in figures.items()}, "\n".join(rows)
    )


def _scores(policy: Policy, name: str) -> list[Score]:
    service = service_of(name, policy.services[name], policy.maximum(name))
    others = [each.name for each in scalers(service, policy.services[name])][:-1]
    makers = [partial(_named, each, service, policy) for each in others]
    own = [partial(ours, service, policy.services[name])]
    return [
        *compare(service, traffic(service), makers, list(SEEDS)[:1]),
        *compare(service, traffic(service), own, SEEDS),
    ]


def _named(scaler: str, service: Service, policy: Policy) -> Scaler:
    found = scalers(service, policy.services[service.name])
    return next(each for each in found if each.name == scaler)


def traffic(service: Service) -> Sequence[Callable[[int], Trace]]:
    base = PODS * 0.7 * service.slots / service.service_s
    return [partial(make, int(3600 * HOURS), base) for make in SUITE.values()]


def brownout_pods(policy: Policy, name: str) -> float:
    """Return the pods while a downstream takes four times as long, in those of the same stretch without."""
    service = service_of(name, policy.services[name], policy.maximum(name))
    rates = np.full(2400, PODS * 0.7 * service.slots / service.service_s)
    calm, slow = (
        simulate(service, rates, ours(service, policy.services[name]), faults=faults)
        for faults in (Faults(), Faults(brownout=BROWNOUT))
    )
    during = slice(*map(int, BROWNOUT))
    return float(slow.pods[during].mean() / calm.pods[during].mean())


def requests_per_cpu_s(policy: Policy) -> float:
    """Return the simulator's speed on the data service with a hundred pods, the best of three."""
    service = service_of("data", policy.services["data"], 400)
    rates = np.full(300, 100 * 0.7 * service.slots / service.service_s)
    own = partial(ours, service, policy.services["data"])
    runs = [simulate(service, rates, own(), seed=seed) for seed in (1, 2, 3)]
    return max(each.offered / each.cpu_s for each in runs)


def _day(policy: Policy) -> str:
    service = service_of("aiml", policy.services["aiml"], 12_000)
    rates = diurnal(86_400, 1.0, 1)
    run = simulate(service, rates * 1e9 / rates.sum(), ours(service, policy.services["aiml"]))
    cells = f"{run.slo:.2%}, {run.cost:.2f} x oracle, {run.pods.max()} pods at most"
    return f"| a day of {run.offered:.2e} calls, aiml, fluid: {run.cpu_s:.0f} s of CPU | {cells} |"


def _row(name: str, each: Score) -> str:
    policy = "**ours**" if each.policy == "fleet" else each.policy
    return (
        f"| {name} | {policy} | {each.slo:.2%} | {each.accepted_slo:.2%} | {each.cost:.2f} "
        f"| {each.reversals:.1f} | {each.most_pods} |"
    )


def _facts(figures: dict[str, float | None]) -> list[str]:
    return [
        f"| pods while a downstream takes four times as long, of those without | {figures['brownout_pods']:.2f} |",
        f"| calls simulated a CPU-second | {figures['requests_per_cpu_s']:,.0f} |",
    ]


if __name__ == "__main__":
    sys.exit(print(run().table))
