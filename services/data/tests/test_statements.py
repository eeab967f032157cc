from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest

from fleet_common.errors import FleetError
from fleet_common.metrics import Metrics
from fleet_common.settings import ServiceSettings
from fleet_common.testing.collector import Collector, collector
from fleet_common.tracing import Tracing
from fleet_data.claims import Caller
from fleet_data.pool import Database

SECRET = "hunter22"


@pytest.fixture
async def spans() -> AsyncGenerator[Collector]:
    async with collector() as spans:
        yield spans


@pytest.fixture
def tracing(spans: Collector) -> Tracing:
    return Tracing(ServiceSettings(tracing_endpoint=spans.url), Metrics("data"), "1")


async def test_every_statement_is_a_span_without_its_text(
    database: Database, demo: Caller, tracing: Tracing, spans: Collector
) -> None:
    async with tracing.opened():
        with tracing.request(None, "POST", {}):
            async with database.reading(demo) as connection:
                await connection.fetch("SELECT $1::text", SECRET)
                await connection.fetch(f" with x as (select '{SECRET}') TABLE x")
    by_name = {span.name: span for span in spans.spans}
    assert set(by_name) == {"BEGIN", "SELECT", "WITH", "ROLLBACK", "POST"}
    assert {by_name[name].parent_id for name in ("BEGIN", "SELECT")} == {by_name["POST"].span_id}
    assert by_name["SELECT"].attributes == {
        "db.system.name": "postgresql",
        "db.operation.name": "SELECT",
    }
    sent = b"".join(spans.raw)
    assert SECRET.encode() not in sent
    assert b"app.claims" not in sent


async def test_a_statement_that_fails_leaves_its_sqlstate(
    database: Database, demo: Caller, tracing: Tracing, spans: Collector
) -> None:
    async with tracing.opened():
        with tracing.request(None, "POST", {}), pytest.raises(FleetError):
            async with database.reading(demo) as connection:
                await connection.fetch(f"{SECRET} is no statement")
    failed = next(span for span in spans.spans if span.name == "QUERY")
    assert failed.is_error
    assert failed.attributes["db.response.status_code"] == "42601"
    assert failed.attributes["error.type"] == "42601"
    assert SECRET.encode() not in b"".join(spans.raw)


async def test_a_request_that_is_not_recorded_leaves_the_connection_alone(
    database: Database, demo: Caller, tracing: Tracing, spans: Collector
) -> None:
    async with tracing.opened(), database.reading(demo) as connection:
        await connection.fetch("SELECT 1")
    assert spans.spans == []
