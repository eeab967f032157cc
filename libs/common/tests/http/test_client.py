from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import httpx
import pytest
import structlog
from aiohttp import web

from fleet_common.clock import ManualClock
from fleet_common.deadline import deadline
from fleet_common.errors import DeadlineExceeded, Unavailable, UpstreamFailed
from fleet_common.http import (
    TRANSIENT_STATUSES,
    Breaker,
    CircuitOpen,
    RetryPolicy,
    open_client,
)
from fleet_common.logs import request_context
from fleet_common.metrics import Metrics
from fleet_common.settings import ServiceSettings
from fleet_common.testing import wait_until
from fleet_common.testing.collector import collector
from fleet_common.testing.upstream import Upstream, not_http, reset, reset_mid_body, status
from fleet_common.tracing import Tracing

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
OK = status(200, "fine")


@pytest.fixture
async def client(upstream: Upstream, no_waits: None) -> AsyncIterator[httpx.AsyncClient]:
    async with open_client(name="crm", base_url=upstream.url, timeout_s=5) as client:
        yield client


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


async def test_it_is_an_httpx_client(client: httpx.AsyncClient, upstream: Upstream) -> None:
    upstream.answer("/contacts", status(201, '{"id": 1}', Content_Type="application/json"))
    response = await client.post("/contacts", json={"name": "Ada"}, params={"dry": "1"})
    assert (response.status_code, response.json()) == (201, {"id": 1})
    assert upstream.requests[0].query["dry"] == "1"
    assert upstream.bodies == [b'{"name":"Ada"}']


async def test_a_status_is_an_answer_and_not_an_error(
    client: httpx.AsyncClient, upstream: Upstream
) -> None:
    for code in (404, 422, 500):
        upstream.answer("/x", status(code))
        assert (await client.get("/x")).status_code == code
    assert upstream.calls["/x"] == 3


async def test_a_connection_is_used_again(client: httpx.AsyncClient, upstream: Upstream) -> None:
    upstream.answer("/x", OK)
    for _ in range(3):
        await client.get("/x")
    peers = {request.transport for request in upstream.requests}
    assert len(peers) == 1


async def test_a_body_is_streamed_as_it_comes(
    client: httpx.AsyncClient, upstream: Upstream
) -> None:
    upstream.answer("/events", upstream.dripping_body)
    async with client.stream("GET", "/events") as response:
        chunks = response.aiter_bytes()
        assert (await anext(chunks)).startswith(b"begun")
        assert await anext(chunks)


async def test_cookies_of_one_caller_do_not_reach_the_next(
    client: httpx.AsyncClient, upstream: Upstream
) -> None:
    upstream.answer("/login", status(200, Set_Cookie="session=of-ada; Path=/"))
    await client.get("/login")
    await client.get("/login")
    assert "Cookie" not in upstream.requests[1].headers


# --- retries -------------------------------------------------------------------------------------


async def test_a_503_is_tried_again(client: httpx.AsyncClient, upstream: Upstream) -> None:
    upstream.answer("/x", status(503), OK)
    assert (await client.get("/x")).text == "fine"
    assert upstream.calls["/x"] == 2


@pytest.mark.parametrize("code", [429, 502, 503, 504])
async def test_the_last_refusal_is_returned_whole(
    client: httpx.AsyncClient, upstream: Upstream, code: int
) -> None:
    upstream.answer("/x", status(code, "come back later"))
    response = await client.get("/x")
    assert (response.status_code, response.text) == (code, "come back later")
    assert upstream.calls["/x"] == 3


async def test_a_lost_connection_is_tried_again(
    client: httpx.AsyncClient, upstream: Upstream
) -> None:
    upstream.answer("/x", reset, OK)
    assert (await client.put("/x", content=b"whole")).text == "fine"
    assert upstream.bodies == [b"whole", b"whole"]


async def test_a_post_is_sent_once(client: httpx.AsyncClient, upstream: Upstream) -> None:
    upstream.answer("/x", status(503))
    assert (await client.post("/x", json={})).status_code == 503
    upstream.answer("/y", reset)
    with pytest.raises(Unavailable):
        await client.post("/y", json={})
    assert upstream.calls == {"/x": 1, "/y": 1}


async def test_a_post_with_an_idempotency_key_is_tried_again(
    client: httpx.AsyncClient, upstream: Upstream
) -> None:
    upstream.answer("/x", status(503), OK)
    response = await client.post("/x", json={"a": 1}, headers={"Idempotency-Key": "k1"})
    assert response.text == "fine"
    assert upstream.bodies == [b'{"a":1}', b'{"a":1}']


async def test_one_attempt_means_no_retry(upstream: Upstream) -> None:
    upstream.answer("/x", status(503))
    once = RetryPolicy(attempts=1)
    async with open_client(name="crm", base_url=upstream.url, retry=once) as client:
        assert (await client.get("/x")).status_code == 503
    assert upstream.calls["/x"] == 1


async def test_retry_after_is_waited_for(upstream: Upstream) -> None:
    upstream.answer("/x", status(429, Retry_After="1"), OK)
    hasty = RetryPolicy(wait_initial_s=0.001, wait_jitter_s=0)
    async with open_client(name="crm", base_url=upstream.url, retry=hasty) as client:
        began = time.monotonic()
        assert (await client.get("/x")).text == "fine"
    assert time.monotonic() - began >= 1


async def test_a_status_the_policy_leaves_out_is_not_sent_again(upstream: Upstream) -> None:
    upstream.answer("/limited", status(429, Retry_After="0"), OK)
    upstream.answer("/away", status(503), OK)
    policy = RetryPolicy(wait_initial_s=0.001, statuses=TRANSIENT_STATUSES)
    async with open_client(name="crm", base_url=upstream.url, retry=policy) as client:
        assert (await client.get("/limited")).status_code == 429
        assert (await client.get("/away")).status_code == 200
    assert upstream.calls["/limited"] == 1


async def test_a_wait_longer_than_the_deadline_is_not_begun(upstream: Upstream) -> None:
    upstream.answer("/x", status(429, Retry_After="60"))
    async with open_client(name="crm", base_url=upstream.url, timeout_s=30) as client:
        with deadline(5):
            assert (await client.get("/x")).headers["Retry-After"] == "60"
    assert upstream.calls["/x"] == 1


async def test_an_outage_is_met_with_few_retries(upstream: Upstream, no_waits: None) -> None:
    upstream.answer("/x", status(503))
    patient = Breaker(minimum_calls=1000)
    policy = RetryPolicy(budget_floor=3)
    async with open_client(
        name="crm", base_url=upstream.url, retry=policy, breaker=patient
    ) as client:
        for _ in range(20):
            await client.get("/x")
    assert upstream.calls["/x"] == 23


# --- time ----------------------------------------------------------------------------------------


async def test_an_upstream_that_never_answers_costs_the_timeout_once(upstream: Upstream) -> None:
    upstream.answer("/x", upstream.never)
    async with open_client(name="crm", base_url=upstream.url, timeout_s=0.2) as client:
        with pytest.raises(DeadlineExceeded, match=r"^deadline_exceeded: crm did not answer"):
            await client.get("/x")
    assert upstream.calls["/x"] == 1


async def test_the_deadline_of_the_caller_cuts_the_timeout_short(
    client: httpx.AsyncClient, upstream: Upstream
) -> None:
    upstream.answer("/x", upstream.never)
    began = time.monotonic()
    with pytest.raises(DeadlineExceeded), deadline(0.2):
        await client.get("/x")
    assert time.monotonic() - began < 4


async def test_a_deadline_that_is_over_sends_nothing(
    client: httpx.AsyncClient, upstream: Upstream
) -> None:
    with pytest.raises(DeadlineExceeded), deadline(0):
        await client.get("/x")
    assert not upstream.calls


async def test_one_request_may_have_a_timeout_of_its_own(
    client: httpx.AsyncClient, upstream: Upstream
) -> None:
    upstream.answer("/x", upstream.never)
    with pytest.raises(DeadlineExceeded):
        await client.get("/x", timeout=0.1)


async def test_without_a_timeout_the_deadline_still_holds(
    client: httpx.AsyncClient, upstream: Upstream
) -> None:
    upstream.answer("/x", upstream.never)
    with pytest.raises(DeadlineExceeded), deadline(0.2):
        await client.get("/x", timeout=None)


async def test_silence_within_a_body_ends_at_the_timeout(
    client: httpx.AsyncClient, upstream: Upstream
) -> None:
    upstream.answer("/x", upstream.silent_body)
    with pytest.raises(DeadlineExceeded):
        await client.get("/x", timeout=0.2)


async def test_a_body_that_drips_ends_at_the_deadline(
    client: httpx.AsyncClient, upstream: Upstream
) -> None:
    upstream.answer("/x", upstream.dripping_body)
    with pytest.raises(DeadlineExceeded), deadline(0.3):
        await client.get("/x")


async def test_the_time_left_is_sent_only_when_asked(upstream: Upstream) -> None:
    upstream.answer("/x", OK)
    for forward in (False, True):
        async with open_client(
            name="data", base_url=upstream.url, forward_deadline=forward
        ) as client:
            with deadline(2):
                await client.get("/x")
    silent, told = (request.headers.get("Fleet-Timeout-Ms") for request in upstream.requests)
    assert silent is None
    assert told is not None
    assert 0 < int(told) <= 2000


# --- errors --------------------------------------------------------------------------------------


async def test_a_refused_connection_is_unavailable() -> None:
    once = RetryPolicy(attempts=1)
    url = f"http://127.0.0.1:{unused_port()}"
    async with open_client(name="crm", base_url=url, retry=once) as client:
        with pytest.raises(Unavailable, match=r"^unavailable: crm is not available") as caught:
            await client.get("/secret?token=hunter2")
    assert caught.value.retry_after_s == 1
    assert "127.0.0.1" not in str(caught.value)


async def test_a_reset_in_the_middle_of_a_body_is_unavailable(
    client: httpx.AsyncClient, upstream: Upstream
) -> None:
    upstream.answer("/x", reset_mid_body)
    with pytest.raises(Unavailable):
        await client.get("/x")


async def test_an_answer_that_is_not_http_is_the_upstreams_failure(
    client: httpx.AsyncClient, upstream: Upstream
) -> None:
    upstream.answer("/x", not_http)
    with pytest.raises(UpstreamFailed, match="crm answered with something that is not HTTP"):
        await client.get("/x")


async def test_a_wrong_url_is_a_defect_and_stays_one(client: httpx.AsyncClient) -> None:
    with pytest.raises(httpx.UnsupportedProtocol):
        await client.get("gopher://crm.test/")


async def test_a_cancelled_call_ends_at_once_and_leaves_the_client_usable(
    client: httpx.AsyncClient, upstream: Upstream
) -> None:
    upstream.answer("/slow", upstream.never)
    upstream.answer("/x", OK)
    task = asyncio.create_task(client.get("/slow"))
    await upstream.called("/slow")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await client.get("/x")).text == "fine"


async def test_a_call_cancelled_between_two_attempts_gives_its_connection_back(
    upstream: Upstream,
) -> None:
    async def refusal_without_end(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=503, headers={"Retry-After": "20"})
        await response.prepare(request)
        await response.write(b"come back lat")
        await upstream.closing.wait()
        return response

    upstream.answer("/x", refusal_without_end)
    upstream.answer("/y", OK)
    async with open_client(
        name="crm", base_url=upstream.url, timeout_s=60, max_connections=1
    ) as client:
        task = asyncio.create_task(client.get("/x"))
        with structlog.testing.capture_logs() as events:
            await wait_until(lambda: has_happened(events, "stamina.retry_scheduled"))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await client.get("/y", timeout=2)).text == "fine"


async def has_happened(events: Sequence[Mapping[str, Any]], name: str) -> bool:
    return any(event["event"] == name for event in events)


# --- breaker -------------------------------------------------------------------------------------


async def test_failures_open_the_breaker_and_a_good_trial_closes_it(upstream: Upstream) -> None:
    upstream.answer("/x", status(500))
    clock = ManualClock()
    breaker = Breaker(minimum_calls=4, open_s=5, trials=1, clock=clock)
    async with open_client(name="crm", base_url=upstream.url, breaker=breaker) as client:
        with structlog.testing.capture_logs() as events:
            for _ in range(4):
                await client.get("/x")
            with pytest.raises(CircuitOpen) as caught:
                await client.get("/x")
            upstream.answer("/x", status(404))
            clock.advance(5)
            assert (await client.get("/x")).status_code == 404
    assert caught.value.code == "unavailable"
    assert caught.value.retry_after_s == 5
    assert upstream.calls["/x"] == 5
    assert [event["event"] for event in events] == ["breaker_opened", "breaker_closed"]


@pytest.mark.parametrize("code", [429, 400, 404])
async def test_refusals_of_the_caller_do_not_open_the_breaker(
    upstream: Upstream, no_waits: None, code: int
) -> None:
    upstream.answer("/x", status(code))
    breaker = Breaker(minimum_calls=2)
    async with open_client(name="crm", base_url=upstream.url, breaker=breaker) as client:
        for _ in range(5):
            await client.get("/x")
    assert breaker.state == "closed"


async def test_a_caller_in_a_hurry_does_not_open_the_breaker(upstream: Upstream) -> None:
    upstream.answer("/x", upstream.never)
    breaker = Breaker(minimum_calls=1)
    async with open_client(name="crm", base_url=upstream.url, breaker=breaker) as client:
        with pytest.raises(DeadlineExceeded), deadline(0.05):
            await client.get("/x")
        breaker.permit().ignored()
        with pytest.raises(DeadlineExceeded):
            await client.get("/x", timeout=0.05)
        assert breaker.state == "open"


async def test_a_cancelled_trial_leaves_room_for_the_next(upstream: Upstream) -> None:
    upstream.answer("/x", status(500))
    upstream.answer("/slow", upstream.never)
    clock = ManualClock()
    breaker = Breaker(minimum_calls=1, open_s=5, clock=clock)
    async with open_client(name="crm", base_url=upstream.url, breaker=breaker) as client:
        await client.get("/x")
        clock.advance(5)
        trial = asyncio.create_task(client.get("/slow"))
        await upstream.called("/slow")
        with pytest.raises(CircuitOpen):
            await client.get("/x")
        trial.cancel()
        with pytest.raises(asyncio.CancelledError):
            await trial
        assert (await client.get("/x")).status_code == 500


async def test_lost_connections_open_the_breaker(upstream: Upstream) -> None:
    upstream.answer("/x", reset)
    breaker = Breaker(minimum_calls=2)
    async with open_client(name="crm", base_url=upstream.url, breaker=breaker) as client:
        for _ in range(2):
            with pytest.raises(Unavailable):
                await client.post("/x")
        with pytest.raises(CircuitOpen):
            await client.post("/x")
    assert upstream.calls["/x"] == 2


# --- what travels and what is measured -----------------------------------------------------------


async def test_the_trace_of_the_request_travels_on(
    client: httpx.AsyncClient, upstream: Upstream
) -> None:
    upstream.answer("/x", OK)
    with request_context(traceparent=TRACEPARENT):
        await client.get("/x")
        await client.get("/x", headers={"traceparent": "own"})
    await client.get("/x")
    sent = [request.headers.get("traceparent") for request in upstream.requests]
    assert sent == [TRACEPARENT, "own", None]


async def test_every_attempt_is_measured_under_the_dependency(
    upstream: Upstream, no_waits: None
) -> None:
    upstream.answer("/x", status(503), OK)
    metrics = Metrics("data")
    async with open_client(name="crm", base_url=upstream.url, metrics=metrics) as client:
        await client.get("/x")
    body, _ = await asyncio.to_thread(metrics.render)
    assert b'mcp_downstream_seconds_count{dep="crm",service="data"} 2.0' in body


async def test_more_requests_than_connections_wait_their_turn(upstream: Upstream) -> None:
    upstream.answer("/x", OK)
    async with (
        open_client(name="crm", base_url=upstream.url, max_connections=2) as client,
        asyncio.TaskGroup() as group,
    ):
        tasks = [group.create_task(client.get("/x")) for _ in range(20)]
    assert {task.result().status_code for task in tasks} == {200}
    assert len({id(request.transport) for request in upstream.requests}) <= 2


async def test_every_attempt_is_a_span_and_the_other_side_is_told_its_parent(
    upstream: Upstream, no_waits: None
) -> None:
    upstream.answer("/secret-name", status(503, Retry_After="0"), status(200))
    async with collector() as spans:
        tracing = Tracing(ServiceSettings(tracing_endpoint=spans.url), Metrics("data"), version="1")
        async with tracing.opened(), open_client(name="crm", base_url=upstream.url) as client:
            with tracing.request(None, "POST", {}):
                await client.get("/secret-name", params={"q": "hunter22"})
    first, second, request = spans.spans
    assert first.attributes["error.type"] == "503"
    assert (second.attributes["http.request.resend_count"], second.is_error) == (1, False)
    assert {first.parent_id, second.parent_id} == {request.span_id}
    sent = [call.headers["traceparent"].split("-")[2] for call in upstream.requests]
    assert sent == [first.span_id, second.span_id]
    assert b"secret-name" not in b"".join(spans.raw)
    assert b"hunter22" not in b"".join(spans.raw)
