"""Prometheus' answers, as recorded, and what each becomes."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import SecretStr

from fleet_common.deadline import deadline
from fleet_common.errors import (
    DeadlineExceeded,
    FleetError,
    InvalidInput,
    PayloadTooLarge,
    Unavailable,
    UpstreamFailed,
)
from fleet_common.http import RetryPolicy, open_client
from fleet_devops.errors import CredentialRejected
from fleet_devops.monitoring import client as client_module
from fleet_devops.monitoring.client import PrometheusClient
from fleet_devops.monitoring.models import Answer
from fleet_devops.monitoring.window import Window

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
VECTOR = (
    b'{"status":"success","data":{"resultType":"vector","result":['
    b'{"metric":{"__name__":"up","job":"a"},"value":[1767268800,"1"]},'
    b'{"metric":{"__name__":"up","job":"b"},"value":[1767268800,"NaN"]},'
    b'{"metric":{"__name__":"up","job":"c"},"value":[1767268800.5,"+Inf"]}]},'
    b'"warnings":["only part of the data"]}'
)
MATRIX = (
    b'{"status":"success","data":{"resultType":"matrix","result":['
    b'{"metric":{},"values":[[1767268800,"1"],[1767268860,"2.5"]]}]}}'
)


@asynccontextmanager
async def prometheus(
    status: int, body: bytes, asked: list[web.Request] | None = None
) -> AsyncGenerator[PrometheusClient]:
    """Answer every request with `body`."""

    async def handle(request: web.Request) -> web.Response:
        if asked is not None:
            asked.append(request)
        return web.Response(status=status, body=body, content_type="application/json")

    app = web.Application()
    app.router.add_get("/prefix/api/v1/{name}", handle)
    async with TestServer(app) as server:
        base = str(server.make_url("/prefix"))
        retry = RetryPolicy(attempts=1)
        async with open_client(name="prometheus", base_url=base, retry=retry) as http:
            yield PrometheusClient(http, token=SecretStr("secret"), timeout_s=10)


async def ask(status: int, body: bytes) -> Answer:
    async with prometheus(status, body) as client:
        return await client.instant("up", NOW)


async def test_a_vector_is_one_sample_per_series() -> None:
    answer = await ask(200, VECTOR)

    assert [series.labels["job"] for series in answer.series] == ["a", "b", "c"]
    assert answer.series[0].last == 1
    assert math.isnan(answer.series[1].last)
    assert answer.series[2].last == math.inf
    assert answer.warnings == ["only part of the data"]


async def test_a_matrix_is_samples_over_time() -> None:
    answer = await ask(200, MATRIX)

    assert answer.series[0].samples == [(1767268800, 1), (1767268860, 2.5)]


async def test_a_scalar_is_a_series_without_labels() -> None:
    answer = await ask(
        200, b'{"status":"success","data":{"resultType":"scalar","result":[1767268800,"42"]}}'
    )

    assert answer.series[0].labels == {}
    assert answer.series[0].last == 42


async def test_a_query_says_what_it_may_cost_and_who_asks() -> None:
    asked: list[web.Request] = []
    async with prometheus(200, VECTOR, asked) as client:
        with deadline(3):
            await client.instant("up", NOW)
        await client.over("up", Window(NOW - timedelta(hours=1), NOW, 60))

    first, second = asked
    assert first.path == "/prefix/api/v1/query"
    assert 0 < float(first.query["timeout"]) <= 3
    assert first.query["time"] == str(NOW.timestamp())
    assert first.headers["Authorization"] == "Bearer secret"
    assert second.path == "/prefix/api/v1/query_range"
    assert second.query["step"] == "60"


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, b'{"status":"error","errorType":"bad_data","error":"parse error"}', InvalidInput),
        (422, b'{"status":"error","errorType":"execution","error":"x"}', InvalidInput),
        (503, b'{"status":"error","errorType":"timeout","error":"x"}', DeadlineExceeded),
        (503, b'{"status":"error","errorType":"canceled","error":"x"}', DeadlineExceeded),
        (500, b'{"status":"error","errorType":"internal","error":"x"}', Unavailable),
        (404, b'{"status":"error","errorType":"not_found","error":"x"}', UpstreamFailed),
        (200, b'{"status":"success"}', UpstreamFailed),
        (
            200,
            b'{"status":"success","data":{"resultType":"string","result":[1,"a"]}}',
            InvalidInput,
        ),
        (502, b"<html>", Unavailable),
        (401, b"Unauthorized", CredentialRejected),
        (200, b"<html>a login page</html>", UpstreamFailed),
    ],
)
async def test_refusals_become_coded_errors(
    status: int, body: bytes, error: type[FleetError]
) -> None:
    with pytest.raises(FleetError) as caught:
        await ask(status, body)

    assert type(caught.value) is error


async def test_an_answer_over_the_limit_is_refused_with_a_hint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_module, "MAX_ANSWER_BYTES", 100)

    with pytest.raises(PayloadTooLarge, match="topk"):
        await ask(200, VECTOR)


async def test_an_answer_that_does_not_decode_is_an_upstream_failure() -> None:
    async def handle(_: web.Request) -> web.Response:
        return web.Response(body=b"not gzip", headers={"Content-Encoding": "gzip"})

    app = web.Application()
    app.router.add_get("/api/v1/query", handle)
    async with (
        TestServer(app) as server,
        open_client(name="prometheus", base_url=str(server.make_url("/"))) as http,
    ):
        with pytest.raises(UpstreamFailed, match="does not decode"):
            await PrometheusClient(http, token=None, timeout_s=1).instant("up", NOW)
