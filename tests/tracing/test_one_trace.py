"""A call is one connected trace, from the client through the gateway and a service to what the service asks."""

from __future__ import annotations

from typing import Any, Protocol

import httpx
import pytest

from fleet_common.testing.collector import Collector, Recorded
from fleet_common.testing.upstream import Upstream
from fleet_common.testing.wire import answer, modern

TRACE_ID, CLIENT_SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE_ID}-{CLIENT_SPAN}-01"
SECRET = "ghp_abcdefghijklmnopqrstuvwxyz0123"
LITERAL = "someone@private.example"


class Fleet(Protocol):
    """What the fixture `fleet` gives (see conftest.py)."""

    http: httpx.AsyncClient
    key: str
    spans: Collector
    github: Upstream


@pytest.fixture(params=["modern", "legacy"])
def era(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["header", "meta"])
def place(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def call(fleet: Fleet, era: str, place: str, tool: str, **arguments: Any) -> dict[str, Any]:
    """Call a tool as a client of this era that says there in which trace it is."""
    request = modern("tools/call", tool, arguments=arguments)
    if era == "legacy":
        request["json"]["params"]["_meta"] = {}
        request["headers"] = {
            "accept": request["headers"]["accept"],
            "mcp-protocol-version": "2025-11-25",
        }
    if place == "meta":
        request["json"]["params"]["_meta"] |= {"traceparent": PARENT, "tracestate": "v=1"}
    else:
        request["headers"] |= {"traceparent": PARENT, "tracestate": "v=1"}
    return answer(await fleet.http.post("/mcp", **request))


async def path_to(fleet: Fleet, last: str) -> list[tuple[str, str]]:
    """Return (service, name) from the client down to the span called `last`, all of one trace."""

    def found() -> Recorded | None:
        return next((span for span in fleet.spans.spans if span.name == last), None)

    while (span := found()) is None or not any(
        one.parent_id == CLIENT_SPAN for one in fleet.spans.spans
    ):
        await fleet.spans.wait_for(len(fleet.spans.spans) + 1)
    by_id = {one.span_id: one for one in fleet.spans.spans}
    path = [span]
    while path[0].parent_id in by_id:
        path.insert(0, by_id[path[0].parent_id])
    assert path[0].parent_id == CLIENT_SPAN
    assert {(one.trace_id, one.tracestate) for one in path} == {(TRACE_ID, "v=1")}
    return [(one.service, one.name) for one in path]


async def test_from_the_client_through_gateway_and_data_to_sql(
    fleet: Fleet, era: str, place: str
) -> None:
    sql = f"SELECT '{LITERAL}' AS email, '{SECRET}' AS token"
    message = await call(fleet, era, place, "db_query", sql=sql)
    assert not message["result"].get("isError"), message
    assert await path_to(fleet, "SELECT") == [
        ("fleet-gateway", "tools/call db_query"),
        ("fleet-gateway", "POST"),
        ("fleet-data", "tools/call db_query"),
        ("fleet-data", "SELECT"),
    ]
    assert_clean(fleet, SECRET, LITERAL, fleet.key, "app.claims")


async def test_from_the_client_through_gateway_and_devops_to_github(
    fleet: Fleet, era: str, place: str
) -> None:
    message = await call(fleet, era, place, "gh_repo_get", owner="o", repo="r")
    error = message["result"]["_meta"]["fleet/error"]
    assert (error["code"], error["traceId"]) == ("not_found", TRACE_ID)
    assert await path_to(fleet, "GET") == [
        ("fleet-gateway", "tools/call gh_repo_get"),
        ("fleet-gateway", "POST"),
        ("fleet-devops", "tools/call gh_repo_get"),
        ("fleet-devops", "GET"),
    ]
    sent = {request.headers["traceparent"].split("-")[1] for request in fleet.github.requests}
    assert sent == {TRACE_ID}
    assert_clean(fleet, "repos/o/r", fleet.key)


async def test_a_statement_that_fails_leaves_its_sqlstate_and_not_its_text(
    fleet: Fleet, era: str
) -> None:
    await call(fleet, era, "header", "db_query", sql=f"SELECT 1/0, '{SECRET}', '{LITERAL}'")
    await path_to(fleet, "SELECT")
    spans = {span.name: span for span in fleet.spans.spans if span.service == "fleet-data"}
    assert spans["SELECT"].attributes["db.response.status_code"] == "22012"
    assert spans["SELECT"].attributes["error.type"] == "22012"
    assert spans["tools/call db_query"].attributes["error.type"] == "invalid_input"
    assert_clean(fleet, SECRET, LITERAL)


async def test_calls_go_on_while_the_collector_refuses(fleet: Fleet, era: str) -> None:
    fleet.spans.refusal = 400
    message = await call(fleet, era, "header", "db_query", sql="SELECT 41 + 1 AS answer")
    assert not message["result"].get("isError"), message


def assert_clean(fleet: Fleet, *secrets: str) -> None:
    sent = b"".join(fleet.spans.raw)
    assert sent
    assert [secret for secret in secrets if secret.encode() in sent] == []
