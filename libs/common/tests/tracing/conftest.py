"""One request that is served, with spans going to a real collector."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from fleet_common.metrics import Metrics
from fleet_common.settings import ServiceSettings
from fleet_common.testing.collector import Collector, collector
from fleet_common.tracing import Tracing


@pytest.fixture
async def spans() -> AsyncGenerator[Collector]:
    async with collector() as spans:
        yield spans


@pytest.fixture
def metrics() -> Metrics:
    return Metrics("data")


@pytest.fixture
def tracing(spans: Collector, metrics: Metrics) -> Tracing:
    return Tracing(ServiceSettings(tracing_endpoint=spans.url), metrics, "1.2.3")
