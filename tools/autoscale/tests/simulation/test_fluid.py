"""The fluid simulation is held to the exact one: same traffic, same policy, nearly the same answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fleet_autoscale.policy import load
from fleet_autoscale.simulation import Faults, Result, simulate
from fleet_autoscale.simulation.run import FLUID_CALLS
from fleet_autoscale.simulation.scalers import ours, service_of
from fleet_autoscale.simulation.traces import Trace, diurnal, spike, step

POLICY = load()
# Twenty pods and more: the fluid mode is for large fleets
BUSY_PODS = 20


def both(name: str, rates: Trace, **changes: object) -> tuple[Result, Result]:
    faults = changes.pop("faults", Faults())
    assert isinstance(faults, Faults)
    policy = POLICY.services[name]
    service = service_of(name, policy, 200)
    exact, fluid = (
        simulate(service, rates, ours(service, policy), faults=faults, is_fluid=is_fluid)
        for is_fluid in (False, True)
    )
    return exact, fluid


def base(name: str) -> float:
    policy = POLICY.services[name]
    return BUSY_PODS * 0.7 * policy.slots / policy.measured.service_s


@pytest.mark.parametrize("make", [diurnal, step, spike])
@pytest.mark.parametrize("name", ["devops", "aiml"])
def test_slo_cost_and_calls_agree_with_the_exact_simulation(name: str, make: object) -> None:
    assert callable(make)
    rates = make(1200, base(name), 1)
    exact, fluid = both(name, rates)
    assert fluid.offered == pytest.approx(exact.offered, rel=0.005)
    assert fluid.slo == pytest.approx(exact.slo, abs=0.005)
    assert fluid.cost == pytest.approx(exact.cost, rel=0.03)


def test_deep_in_an_overload_pods_agree_and_the_objective_is_seen_a_little_too_dark() -> None:
    rates = np.full(600, base("aiml"))
    exact, fluid = both("aiml", rates, faults=Faults(brownout=(200.0, 500.0)))
    # Pods are loaded unequally, so that some calls do better than the mean.
    assert exact.slo - 0.08 < fluid.slo < exact.slo
    assert fluid.cost == pytest.approx(exact.cost, rel=0.05)


def test_a_downstream_pool_caps_the_stream() -> None:
    policy = POLICY.services["aiml"]
    limited = replace(service_of("aiml", policy, 200), connections=24, downstream_share=0.5)
    result = simulate(limited, np.full(300, base("aiml")), ours(limited, policy), is_fluid=True)
    # 24 connections, each held for half of 120 ms
    assert result.offered - result.shed == pytest.approx(300 * 400, rel=0.1)


def test_a_run_of_very_many_calls_is_fluid_unless_asked_otherwise() -> None:
    policy = POLICY.services["data"]
    service = service_of("data", policy, 40_000)
    result = simulate(service, np.full(60, FLUID_CALLS / 50), ours(service, policy))
    assert result.is_fluid
    assert not simulate(service, np.full(60, 10.0), ours(service, policy)).is_fluid
