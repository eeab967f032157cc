"""The way to a service whose endpoints shed, refuse, break and die, on real sockets."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest
from aiohttp import web

from fleet_common.auth.internal import InternalSigner, InternalVerifier, generate_keypair
from fleet_common.clock import Clock, ManualClock
from fleet_common.deadline import deadline
from fleet_common.metrics import Metrics
from fleet_common.testing import serving
from fleet_common.testing.principals import viewer
from fleet_common.testing.upstream import Upstream, reset, reset_mid_body, status, upstream_server
from fleet_gateway.balancing.service import Pool, PoolMetrics, PoolOptions
from fleet_gateway.registry.models import Catalogue, Offer
from fleet_gateway.routing.client import Destination, Forwarder
from fleet_gateway.routing.nesting import Nesting
from fleet_gateway.routing.tokens import Minted

SHED = status(503, '{"shed": true}', Retry_After="1")
FINE = status(200, '{"fine": true}')
OFFER = Offer(tools=frozenset({"crm_get", "crm_write"}), repeatable=frozenset({"crm_get"}))
PRIVATE_PEM, PUBLIC_PEM = generate_keypair()
Run = Callable[..., Any]


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {
        "jsonrpc": "2.0",
        "id": 7,
        "method": "tools/call",
        "params": {"name": name, "arguments": arguments},
    }


class Hop:
    """A forwarder behind a real server."""

    def __init__(self, forwarder: Forwarder, http: httpx.AsyncClient, metrics: Metrics) -> None:
        self.pool = forwarder.pools["data"]
        self.http = http
        self._metrics = metrics

    async def post(self, name: str = "crm_get", **arguments: Any) -> httpx.Response:
        return await self.http.post("/mcp", json=call(name, **arguments))

    async def count(self, line: str) -> float:
        text = (await asyncio.to_thread(self._metrics.render))[0].decode()
        return sum(float(row.split()[-1]) for row in text.splitlines() if row.startswith(line))


@asynccontextmanager
async def hop_to(
    *urls: str,
    offer: Offer = OFFER,
    time_s: float | None = None,
    fallback: str | None = None,
    clock: Clock = time.monotonic,
) -> AsyncGenerator[Hop]:
    metrics = Metrics("gateway")
    pool_metrics, options = PoolMetrics(metrics), PoolOptions(hold_s=0.3)
    pools = {"data": Pool("data", urls, pool_metrics, options, clock=clock)}
    if fallback:
        pools["spare"] = Pool("spare", [fallback], pool_metrics, options)
    to = Destination("data", fallback="spare" if fallback else None)
    catalogue = Catalogue(["data"])
    catalogue.services["data"].offer = offer
    forwarder = Forwarder(
        pools,
        catalogue,
        Minted(InternalSigner(PRIVATE_PEM)),
        Nesting(PRIVATE_PEM),
        connect_timeout_s=1,
    )

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for _ in range(2):
                kind = (await receive())["type"]
                await send({"type": f"{kind}.complete"})
        elif time_s is None:
            await forwarder.forward(to, viewer(), scope, receive, send)
        else:
            with deadline(time_s):
                await forwarder.forward(to, viewer(), scope, receive, send)

    async with (
        forwarder.opened(),
        serving(app) as url,
        httpx.AsyncClient(base_url=url, timeout=9) as http,
    ):
        yield Hop(forwarder, http, metrics)


@pytest.fixture
async def pair() -> AsyncIterator[tuple[Upstream, Upstream]]:
    async with upstream_server() as one, upstream_server() as other:
        for upstream in (one, other):
            upstream.answer("/mcp", FINE)
        yield one, other


def nowhere() -> str:
    """Return the URL of a port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{sock.getsockname()[1]}"


async def test_requests_are_spread_over_the_endpoints(pair: tuple[Upstream, Upstream]) -> None:
    async def last_of_twenty(request: web.Request) -> web.StreamResponse:
        async with asyncio.timeout(5):
            await together.wait()
        return await FINE(request)

    together = asyncio.Barrier(20)
    for upstream in pair:
        upstream.answer("/mcp", last_of_twenty)
    async with hop_to(*(u.url for u in pair)) as hop:
        answers = await asyncio.gather(*(hop.post() for _ in range(20)))
    assert all(answer.json() == {"fine": True} for answer in answers)
    assert [upstream.calls["/mcp"] for upstream in pair] == [10, 10]


async def test_a_shed_call_is_sent_once_to_another_endpoint(
    pair: tuple[Upstream, Upstream],
) -> None:
    pair[0].answer("/mcp", SHED)
    async with hop_to(*(u.url for u in pair)) as hop:
        answers = [await hop.post("crm_write") for _ in range(8)]
    assert {answer.status_code for answer in answers} == {200}
    assert (
        await hop.count('mcp_gateway_retries_total{dep="data",reason="shed"')
        == pair[0].calls["/mcp"]
    )


async def test_what_every_endpoint_sheds_reaches_the_client_as_it_is(
    pair: tuple[Upstream, Upstream],
) -> None:
    for upstream in pair:
        upstream.answer("/mcp", SHED)
    async with hop_to(*(u.url for u in pair)) as hop:
        answer = await hop.post()
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json() == {"shed": True}
    assert sum(upstream.calls["/mcp"] for upstream in pair) == 2


async def test_sheds_neither_open_the_breaker_nor_eject_an_endpoint(
    pair: tuple[Upstream, Upstream],
) -> None:
    for upstream in pair:
        upstream.answer("/mcp", SHED)
    async with hop_to(*(u.url for u in pair)) as hop:
        for _ in range(20):
            await hop.post()
        assert hop.pool.breaker.state == "closed"
        assert hop.pool.ejected == 0


async def test_an_endpoint_nobody_listens_on_costs_no_call_and_is_ejected(
    pair: tuple[Upstream, Upstream],
) -> None:
    async with hop_to(nowhere(), nowhere(), pair[0].url) as hop:
        answers = [await hop.post("crm_write") for _ in range(10)]
        assert hop.pool.ejected == 2
    assert {answer.status_code for answer in answers} == {200}


async def test_a_service_nobody_listens_for_is_unavailable_and_says_when_to_retry() -> None:
    async with hop_to(nowhere()) as hop:
        answer = await hop.post()
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert answer.json()["error"]["data"]["retryable"] is True


async def test_a_broken_call_is_repeated_when_its_tool_only_reads(
    pair: tuple[Upstream, Upstream],
) -> None:
    pair[0].answer("/mcp", reset)
    async with hop_to(*(u.url for u in pair)) as hop:
        answers = [await hop.post() for _ in range(8)]
    assert {answer.status_code for answer in answers} == {200}


async def test_a_broken_write_is_not_repeated_unless_it_carries_a_key(
    pair: tuple[Upstream, Upstream],
) -> None:
    for upstream in pair:
        upstream.answer("/mcp", reset, FINE)
    async with hop_to(*(u.url for u in pair)) as hop:
        write = await hop.post("crm_write")
        assert write.status_code == 503
        assert sum(upstream.calls["/mcp"] for upstream in pair) == 1
        keyed = await hop.post("crm_write", idempotency_key="0123456789")
    assert keyed.status_code == 200


async def test_a_lone_endpoint_gets_a_broken_call_again_on_a_fresh_connection(
    pair: tuple[Upstream, Upstream],
) -> None:
    pair[0].answer("/mcp", reset, FINE)
    async with hop_to(pair[0].url) as hop:
        assert (await hop.post()).status_code == 200


async def test_a_fallback_takes_what_its_service_did_not_run(
    pair: tuple[Upstream, Upstream],
) -> None:
    pair[1].answer("/mcp", status(200, '{"spare": true}'))
    async with hop_to(nowhere(), fallback=pair[1].url) as hop:
        assert (await hop.post("crm_write")).json() == {"spare": True}
    token = pair[1].requests[0].headers["authorization"].removeprefix("Bearer ")
    assert InternalVerifier(PUBLIC_PEM, audience="spare").verify(token)

    pair[0].answer("/mcp", reset)
    async with hop_to(pair[0].url, fallback=pair[1].url) as hop:
        assert (await hop.post("crm_get")).json() == {"spare": True}
        assert (await hop.post("crm_write")).status_code == 503


async def test_retries_stay_within_their_budget(pair: tuple[Upstream, Upstream]) -> None:
    for upstream in pair:
        upstream.answer("/mcp", SHED)
    async with hop_to(*(u.url for u in pair), clock=ManualClock()) as hop:
        for _ in range(30):
            await hop.post()
        # The ten that a quiet gateway has: what is shed pays for no retry.
        assert await hop.count("mcp_gateway_retries_total") == 10
        for upstream in pair:
            upstream.answer("/mcp", FINE)
        for _ in range(40):
            await hop.post()
        for upstream in pair:
            upstream.answer("/mcp", SHED)
        for _ in range(20):
            await hop.post()
    # And a tenth of the forty answers.
    assert await hop.count("mcp_gateway_retries_total") == 14


async def test_a_large_body_streams_and_is_not_repeated(pair: tuple[Upstream, Upstream]) -> None:
    for upstream in pair:
        upstream.answer("/mcp", SHED)
    body = json.dumps(call("crm_get", text="x" * 900_000)).encode()

    async def chunks(count: int) -> AsyncIterator[bytes]:
        for _ in range(count):
            yield body

    async with hop_to(*(u.url for u in pair)) as hop:
        large = await hop.http.post("/mcp", content=chunks(3))
        assert large.status_code == 503
        assert sum(upstream.calls["/mcp"] for upstream in pair) == 1
        assert body * 3 in [*pair[0].bodies, *pair[1].bodies]
        small = await hop.http.post("/mcp", content=chunks(1))
        assert small.status_code == 503
        assert sum(upstream.calls["/mcp"] for upstream in pair) == 3


async def test_a_large_body_is_sent_elsewhere_when_nobody_listened(
    pair: tuple[Upstream, Upstream],
) -> None:
    async with hop_to(nowhere(), pair[0].url) as hop:
        for _ in range(4):
            answer = await hop.http.post("/mcp", content=b"x" * 3_000_000)
            assert answer.status_code == 200
    assert {len(body) for body in pair[0].bodies} == {3_000_000}


async def test_failures_open_the_breaker(pair: tuple[Upstream, Upstream]) -> None:
    pair[0].answer("/mcp", status(500))
    async with hop_to(pair[0].url) as hop:
        codes = [(await hop.post()).status_code for _ in range(12)]
        assert await hop.count('mcp_gateway_failures_total{dep="data"') == 12
        assert await hop.count('mcp_breaker_open{dep="data"') == 1
    assert codes == [*[500] * 10, 503, 503]
    assert pair[0].calls["/mcp"] == 10


async def test_an_answer_that_breaks_in_the_middle_is_cut_short(
    pair: tuple[Upstream, Upstream],
) -> None:
    pair[0].answer("/mcp", reset_mid_body)
    async with hop_to(pair[0].url) as hop:
        with pytest.raises(httpx.RemoteProtocolError):
            await hop.post()


async def test_a_stream_that_breaks_in_the_middle_ends_with_a_retryable_error(
    pair: tuple[Upstream, Upstream],
) -> None:
    async def half_a_stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b'event: message\ndata: {"jsonrpc":"2.0","method":"notifica')
        assert request.transport is not None
        request.transport.abort()
        return response

    pair[0].answer("/mcp", half_a_stream)
    async with hop_to(pair[0].url) as hop:
        answer = await hop.post()
    *_, last = (line for line in answer.text.splitlines() if line.startswith("data: "))
    message = json.loads(last[6:])
    assert message["id"] == 7
    assert message["error"]["data"]["code"] == "unavailable"
    assert message["error"]["data"]["retryable"] is True


async def test_the_service_is_told_what_is_left_of_the_deadline(
    pair: tuple[Upstream, Upstream],
) -> None:
    async with hop_to(pair[0].url, time_s=2.0) as hop:
        await hop.http.post("/mcp", json=call("crm_get"), headers={"fleet-timeout-ms": "99999"})
    assert 1000 < int(pair[0].requests[0].headers["fleet-timeout-ms"]) <= 2000


async def test_a_service_that_says_nothing_is_given_up_soon_after_the_deadline(
    pair: tuple[Upstream, Upstream],
) -> None:
    pair[0].answer("/mcp", pair[0].never)
    async with hop_to(pair[0].url, time_s=0.05) as hop:
        answer = await hop.post()
    assert answer.status_code == 504
    assert answer.json()["error"]["data"]["code"] == "deadline_exceeded"


async def test_a_call_is_held_while_there_is_no_endpoint() -> None:
    async with hop_to() as hop, upstream_server() as upstream:
        upstream.answer("/mcp", FINE)
        assert (await hop.post()).status_code == 503
        waiting = asyncio.create_task(hop.post())
        while not await hop.count("mcp_gateway_held"):  # noqa: ASYNC110 - a gauge cannot be awaited
            await asyncio.sleep(0.01)
        hop.pool._urls = (upstream.url,)
        await hop.pool.discover()
        assert (await waiting).status_code == 200


async def test_a_client_that_leaves_in_the_middle_of_its_body_blames_no_endpoint(
    pair: tuple[Upstream, Upstream],
) -> None:
    async def half_a_body() -> AsyncIterator[bytes]:
        yield b"x" * 2_000_000
        await asyncio.sleep(0.05)
        raise ConnectionAbortedError

    async with AsyncExitStack() as stack:
        hop = await stack.enter_async_context(hop_to(pair[0].url))
        for _ in range(4):
            with pytest.raises(ConnectionAbortedError):
                await hop.http.post("/mcp", content=half_a_body())
        assert (await hop.post()).status_code == 200
        assert hop.pool.endpoints[0]._failures == 0
        assert hop.pool.breaker.state == "closed"
