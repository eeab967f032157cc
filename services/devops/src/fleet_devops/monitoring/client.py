"""Prometheus' HTTP API over the shared pooled client."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import httpx
from pydantic import SecretStr, ValidationError

from fleet_common.deadline import remaining
from fleet_common.errors import (
    DeadlineExceeded,
    FleetError,
    InvalidInput,
    PayloadTooLarge,
    Unavailable,
    UpstreamFailed,
)
from fleet_devops.errors import CredentialRejected
from fleet_devops.monitoring.models import (
    Answer,
    Series,
    WireAnswer,
    WireMatrix,
    WireResult,
    WireScalar,
    WireString,
    WireVector,
)
from fleet_devops.monitoring.window import Window
from fleet_devops.text import clip, visible

MAX_ANSWER_BYTES = 8 * 1024 * 1024
MAX_SERIES = 5_000  # servers from 2.55 on stop there by themselves; older ones ignore the parameter
_QUERY = "api/v1/query"
_QUERY_RANGE = "api/v1/query_range"


class PrometheusClient:
    """Asks one Prometheus.

    Args:
        http: pooled client whose base URL is Prometheus'.
        token: bearer token, when it wants one.
        timeout_s: longest evaluation it may spend on one query.
    """

    def __init__(
        self, http: httpx.AsyncClient, *, token: SecretStr | None, timeout_s: float
    ) -> None:
        self._http = http
        self._timeout_s = timeout_s
        self._headers = {"User-Agent": "mcp-fleet-devops"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token.get_secret_value()}"

    async def instant(self, promql: str, at: datetime) -> Answer:
        """Return the value of every series at one moment.

        Raises:
            InvalidInput: the expression is wrong; the message is Prometheus' own.
            DeadlineExceeded: the evaluation takes longer than the call has.
            Unavailable: Prometheus does not answer.
        """
        return await self._ask(_QUERY, {"query": promql, "time": str(at.timestamp())})

    async def over(self, promql: str, window: Window) -> Answer:
        """Return the values of every series over a window; raises as `instant` does."""
        params = {
            "query": promql,
            "start": str(window.start.timestamp()),
            "end": str(window.end.timestamp()),
            "step": str(window.step_s),
        }
        return await self._ask(_QUERY_RANGE, params)

    async def _ask(self, path: str, params: Mapping[str, str]) -> Answer:
        # Plain seconds: Prometheus takes a fraction there, but not in "1.5s".
        bounds = {"timeout": f"{remaining(self._timeout_s):.3f}", "limit": str(MAX_SERIES)}
        try:
            response = await self._http.get(
                path, params={**params, **bounds}, headers=self._headers
            )
        except httpx.DecodingError as exc:
            raise UpstreamFailed("Prometheus' answer does not decode") from exc
        if len(response.content) > MAX_ANSWER_BYTES:
            raise PayloadTooLarge(
                f"the answer has {len(response.content)} bytes",
                hint="Aggregate in the query, with sum by (...) or topk(20, ...)",
            )
        return _answer(response)


def _answer(response: httpx.Response) -> Answer:
    try:
        answer = WireAnswer.model_validate_json(response.content)
    except ValidationError as exc:
        raise _failure(response.status_code) from exc
    if answer.status == "error" or answer.data is None:
        raise _refusal(answer)
    return Answer(series_of(answer.data), answer.warnings)


def _failure(status: int) -> FleetError:
    if status in (401, 403):
        return CredentialRejected("Prometheus", "FLEET_DEVOPS_PROMETHEUS_TOKEN")
    if status >= 500 or status == 429:
        return Unavailable("Prometheus")
    return UpstreamFailed(
        f"FLEET_DEVOPS_PROMETHEUS_URL answers {status} and not as Prometheus does"
    )


def _refusal(answer: WireAnswer) -> FleetError:
    said = clip(visible(answer.error), 500)
    match answer.error_type:
        case "bad_data" | "execution":
            return InvalidInput(f"Prometheus refuses the query: {said}")
        case "timeout" | "canceled":
            return DeadlineExceeded("Prometheus did not finish the query in time")
        case "unavailable" | "internal":
            return Unavailable("Prometheus")
    return UpstreamFailed(f"Prometheus failed with {answer.error_type}: {said}")


def series_of(data: WireResult) -> list[Series]:
    """Return the series of an answer of any type; a scalar is a series without labels.

    Raises:
        InvalidInput: the expression is a string literal, which has no series.
    """
    match data:
        case WireMatrix():
            return [Series(item.metric, item.values) for item in data.result]
        case WireVector():
            return [Series(item.metric, [item.value]) for item in data.result]
        case WireScalar():
            return [Series({}, [data.result])]
        case WireString():
            raise InvalidInput("the expression is a string, not a metric")
