"""What the fleet's policy promises, on a part of the suite; `python -m bench scaling` runs it all."""

from __future__ import annotations

from functools import partial
from statistics import fmean

import pytest

from fleet_autoscale.policy import load
from fleet_autoscale.simulation import simulate
from fleet_autoscale.simulation.scalers import ours, service_of
from fleet_autoscale.simulation.suite import SEEDS, SUITE
from fleet_autoscale.simulation.traces import ramp

POLICY = load()
PART = {name: SUITE[name] for name in ("diurnal", "bursty", "bursty, quick", "shift")}
PART["ramp x3"] = partial(ramp, height=3.0)
SECONDS = 1800


def test_the_suite_has_twenty_kinds_of_traffic_and_ten_seeds() -> None:
    assert len(SUITE) >= 20
    assert len(SEEDS) >= 10
    means = {name: make(3600, 1.0, 1).mean() for name, make in SUITE.items()}
    assert all(0.5 < mean < 2.5 for mean in means.values()), means


@pytest.mark.parametrize(
    ("name", "slo", "cost"), [("data", 0.993, 1.35), ("devops", 0.988, 1.6), ("aiml", 0.98, 2.1)]
)
def test_the_objective_is_kept_at_the_promised_cost(name: str, slo: float, cost: float) -> None:
    policy = POLICY.services[name]
    service = service_of(name, policy, POLICY.maximum(name))
    # Fewer pods where a pod takes thousands of calls a second: those cost the time of the test.
    base = (3 if name == "data" else 5) * 0.7 * service.slots / service.service_s
    runs = [
        simulate(service, make(SECONDS if name != "data" else 600, base, 1), ours(service, policy))
        for make in PART.values()
    ]
    assert fmean(run.slo for run in runs) >= slo
    assert fmean(run.cost for run in runs) <= cost
