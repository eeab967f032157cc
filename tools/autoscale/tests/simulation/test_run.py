"""The simulator against queueing theory, and the policies against what can go wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from fleet_autoscale.policy import load
from fleet_autoscale.simulation import Faults, Result, Service, View, simulate
from fleet_autoscale.simulation.scalers import (
    HpaScaler,
    KedaScaler,
    Kpa,
    cpu,
    in_flight,
    ours,
    raw_p95,
    scalers,
    service_of,
)
from fleet_autoscale.simulation.traces import Trace, step

POLICY = load()


def service(name: str) -> Service:
    return service_of(name, POLICY.services[name], POLICY.maximum(name))


DATA = service("data")


def fleet(of: Service = DATA) -> HpaScaler:
    return ours(of, POLICY.services[of.name])


def steady(rate: float, seconds: int = 600) -> Trace:
    return np.full(seconds, rate)


@dataclass
class Fixed:
    """So many pods, whatever happens."""

    pods: int
    name: str = "fixed"
    period_s: float = 15.0
    scrape_s: float = 5.0
    views: list[View] = field(default_factory=list)

    def replicas(self, view: View) -> int:
        self.views.append(view)
        return self.pods


def test_a_seed_gives_the_same_run_and_another_seed_another() -> None:
    first, again, other = (
        simulate(DATA, steady(500, 120), fleet(), seed=seed) for seed in (1, 1, 2)
    )
    assert (first.offered, first.good) == (again.offered, again.good)
    assert first.offered != other.offered


def test_arrivals_follow_the_trace() -> None:
    result = simulate(DATA, steady(1000), Fixed(10))
    assert result.offered == pytest.approx(600_000, rel=0.005)


def test_what_is_in_flight_obeys_littles_law() -> None:
    scaler = Fixed(10)
    simulate(DATA, steady(1000), scaler)
    meter = scaler.views[-1].meter
    assert meter.mean_busy(580, 500) == pytest.approx(1000 * DATA.service_s, rel=0.02)
    assert meter.mean_service_s(580, 0.0) == pytest.approx(DATA.service_s, rel=0.01)
    assert meter.demand_rate(580, 300) == pytest.approx(1000, rel=0.02)


def test_waiting_follows_erlang_c() -> None:
    # One pod, exponential-like is not ours: with sigma 0.83 the squared coefficient of variation is 1, as M/M/c has.
    scaled = replace(DATA, sigma=0.8326, queue=5_000, slo_s=100.0, minimum=1)
    rate = 0.9 * scaled.slots / scaled.service_s
    scaler = Fixed(1)
    simulate(scaled, steady(rate, 900), scaler)
    waiting = scaler.views[-1].meter.mean_inflight(880, 800) - scaler.views[-1].meter.mean_busy(
        880, 800
    )
    load, c = 0.9 * scaled.slots, scaled.slots
    terms = [load**k / float(np.prod(np.arange(1, k + 1, dtype=float))) for k in range(c)]
    last = load**c / float(np.prod(np.arange(1, c + 1, dtype=float))) / (1 - load / c)
    erlang_c = last / (sum(terms) + last)
    assert waiting == pytest.approx(erlang_c * 0.9 / (1 - 0.9), rel=0.25)


def test_an_idle_service_attains_what_its_service_times_allow() -> None:
    result = simulate(replace(DATA, slo_s=0.06), steady(50), Fixed(10))
    assert 0.5 < result.attainable < 0.95
    assert result.slo == pytest.approx(1.0, abs=0.01)


def test_an_overloaded_pod_sheds_and_keeps_its_promise_to_the_rest() -> None:
    rates = steady(1600, 120)
    rates[:20] = 0.0  # else it would begin with the pods that the first second needs
    result = simulate(DATA, rates, Fixed(2))
    capacity = 2 * DATA.slots / DATA.service_s
    assert result.offered - result.shed == pytest.approx(100 * capacity, rel=0.03)
    assert result.accepted_slo > 0.99


def test_a_downstream_pool_caps_what_pods_can_do() -> None:
    # 16 connections, each held for half of 40 ms: 800 calls a second, however many pods there are.
    limited = replace(DATA, connections=16, downstream_share=0.5)
    result = simulate(limited, steady(1600, 120), Fixed(20))
    assert result.offered - result.shed == pytest.approx(120 * 800, rel=0.1)
    assert simulate(DATA, steady(1600, 120), Fixed(20)).shed == 0


@pytest.mark.parametrize("name", ["data", "devops", "aiml"])
def test_the_fleets_policy_follows_a_step(name: str) -> None:
    scaled = service(name)
    rates = step(1200, 2 * 0.7 * scaled.slots / scaled.service_s, seed=1)
    result = simulate(scaled, rates, fleet(scaled))
    assert result.accepted_slo > 0.99
    assert result.slo > 0.97
    assert result.cost < 2.2


def test_cheap_cpu_targets_cost_calls() -> None:
    rates = step(900, 2 * 0.7 * DATA.slots / DATA.service_s, seed=1)
    other, own = simulate(DATA, rates, cpu(DATA, 90)), simulate(DATA, rates, fleet())
    assert other.slo < own.slo


def during(result: Result, period: tuple[int, int]) -> float:
    return float(result.pods[slice(*period)].mean())


def test_a_slow_downstream_grows_our_fleet_by_less_than_a_third_and_raw_p95_without_end() -> None:
    rates, period = steady(600, 700), (200, 600)
    brownout = Faults(brownout=period)
    calm = during(simulate(DATA, rates, fleet()), period)
    assert during(simulate(DATA, rates, fleet(), faults=brownout), period) <= 1.3 * calm
    assert during(simulate(DATA, rates, raw_p95(DATA), faults=brownout), period) > 2 * calm


def test_metrics_that_stand_still_hold_the_fleet_and_then_are_none() -> None:
    rates = steady(2500, 900)
    rates[60:] = 10.0
    result = simulate(DATA, rates, fleet(), faults=Faults(stale_metrics=(65, 500)))
    assert result.pods[65:500].min() == result.pods[65]
    assert result.pods[-1] < result.pods[65]


def test_a_pod_that_waits_for_its_node_comes_later_and_costs_nothing_meanwhile() -> None:
    rates = steady(300, 300)
    rates[60:] = 2000.0
    roomy = simulate(DATA, rates, fleet())
    full = simulate(DATA, rates, fleet(), faults=Faults(full_nodes=(60, 300)))
    assert full.good < roomy.good
    assert full.pod_seconds < roomy.pod_seconds


@pytest.mark.parametrize("make", [fleet, lambda: in_flight(DATA), lambda: cpu(DATA, 70)])
def test_nothing_scales_in_while_metrics_are_away(make: Callable[[], HpaScaler]) -> None:
    rates = steady(2500, 900)
    rates[60:] = 10.0
    result = simulate(DATA, rates, make(), faults=Faults(metrics_outage=(65, 500)))
    assert result.pods[65:500].min() == result.pods[65]
    assert result.pods[-1] < result.pods[65]


def test_a_rolling_update_loses_nothing() -> None:
    rates = steady(600, 400)
    result = simulate(DATA, rates, fleet(), faults=Faults(rollout_s=200.0))
    assert result.shed == 0
    calm = simulate(DATA, rates, fleet())
    assert calm.pod_seconds < result.pod_seconds < 1.3 * calm.pod_seconds


def test_from_zero_the_gateway_holds_the_call_until_a_pod_is_ready() -> None:
    rates = steady(2, 1500)
    rates[:900] = 0.0
    scaled = replace(DATA, minimum=1, slo_s=20.0)
    scaler = KedaScaler(fleet(scaled))
    assert scaler.name == "fleet, to zero"
    result = simulate(scaled, rates, scaler)
    assert result.pods[600:890].max() == 0
    assert result.pods[-1] >= 1
    assert result.shed == 0


def test_a_call_is_not_held_longer_than_the_gateway_may() -> None:
    rates = steady(20, 600)
    rates[:400] = 0.0
    scaled = replace(DATA, minimum=1, start_s=60.0, hold_s=5.0)
    result = simulate(scaled, rates, KedaScaler(fleet(scaled)))
    # A minute and a poll without a pod, less what the gateway may hold.
    assert result.shed == pytest.approx(20 * (60 + 5 - 5), rel=0.3)


def test_knative_panics_at_a_burst_and_calms_down() -> None:
    rates = steady(400, 600)
    rates[200:260] = 6000.0
    result = simulate(DATA, rates, Kpa(DATA))
    assert result.pods[200:260].max() > 10
    assert result.pods[-1] <= 4


def test_every_policy_can_be_compared() -> None:
    names = [each.name for each in scalers(DATA, POLICY.services["data"])]
    assert names == ["CPU 90 %", "CPU 70 %", "raw p95", "in flight 70 %", "KPA", "fleet"]
