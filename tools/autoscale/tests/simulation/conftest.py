from __future__ import annotations

import numpy as np
import pytest

from fleet_autoscale.policy import load
from fleet_autoscale.simulation import simulate
from fleet_autoscale.simulation.scalers import in_flight, service_of


@pytest.fixture(scope="session", autouse=True)
def compiled() -> None:
    """The kernels are compiled once, outside of any test's time."""
    policy = load()
    service = service_of("data", policy.services["data"], 10)
    for is_fluid in (False, True):
        simulate(service, np.full(2, 10.0), in_flight(service), is_fluid=is_fluid)
