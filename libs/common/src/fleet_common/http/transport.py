"""The way of one outbound request: deadline, breaker, attempt, translation, retry.

It sits below the httpx client, so every verb, stream and redirect takes it. Statuses are answers and
reach the caller as they are; what is raised comes from `fleet_common.errors` and names the
dependency, never an address or a library's text.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from random import uniform
from typing import cast

import httpx
import stamina
import structlog

from fleet_common.deadline import TIMEOUT_HEADER, remaining
from fleet_common.errors import DeadlineExceeded, FleetError, Unavailable
from fleet_common.http.breaker import Breaker, BreakerOpen, Permit
from fleet_common.http.retry import (
    RetryBudget,
    RetryPolicy,
    is_repeatable,
    retry_after_s,
)
from fleet_common.http.translation import NEVER_S, Body, NotReached, translated
from fleet_common.metrics import Metrics
from fleet_common.tracing import ClientSpan

log = structlog.get_logger()

# Linux repeats a lost SYN after 1 s and again after 3 s: this survives one loss, and a black hole
# still leaves time for a retry.
_CONNECT_S = 3.0


class CircuitOpen(Unavailable):
    """Raised when the dependency has failed so often that it is left alone for a while."""


class _TryAgain(Exception):
    """An answer that asks for a retry, on its way through stamina."""

    def __init__(self, dependency: str, response: httpx.Response) -> None:
        super().__init__(f"{dependency} answered {response.status_code}")
        self.response = response


@dataclass(frozen=True, slots=True)
class Dependency:
    """What the transport knows about the other side."""

    name: str
    retry: RetryPolicy
    budget: RetryBudget
    breaker: Breaker
    metrics: Metrics | None
    forward_deadline: bool


class ResilientTransport(httpx.AsyncBaseTransport):
    """Send requests through another transport, within the caller's deadline."""

    def __init__(self, inner: httpx.AsyncBaseTransport, dependency: Dependency) -> None:
        self._inner = inner
        self._dependency = dependency

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Return the response, its body still unread.

        Raises:
            DeadlineExceeded: no answer within the client's timeout or the caller's deadline.
            Unavailable: no connection, or the breaker is open.
            UpstreamFailed: the answer is not HTTP.
        """
        call = _Call(self._inner, self._dependency, request)
        if self._dependency.retry.attempts > 1 and is_repeatable(request):
            return await call.send_until_answered()
        return await call.send()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._inner.aclose()


class _Call:
    """One request and the time it has."""

    def __init__(
        self, inner: httpx.AsyncBaseTransport, dependency: Dependency, request: httpx.Request
    ) -> None:
        self._inner = inner
        self._to = dependency
        self._request = request
        own_s = request.extensions.get("timeout", {}).get("read")
        own_s = NEVER_S if own_s is None else float(own_s)
        left_s = remaining(own_s)
        # Cut short by the caller, a call that ran out of time tells nothing about the dependency.
        self._is_cut_short = left_s < own_s
        self._ends_at = time.monotonic() + left_s
        self._sent = 0
        self._sets_traceparent = "traceparent" not in request.headers
        self._refused: httpx.Response | None = None

    async def send_until_answered(self) -> httpx.Response:
        """Send, and send again while the policy, the budget and the time allow."""
        policy = self._to.retry
        try:
            async for attempt in stamina.retry_context(
                on=self._next_wait,
                attempts=policy.attempts,
                timeout=None,
                wait_initial=policy.wait_initial_s,
                wait_max=policy.wait_max_s,
                wait_jitter=policy.wait_jitter_s,
            ):
                await self._close_refused()
                with attempt:
                    return await self._send_or_refuse()
        except _TryAgain as last:
            self._refused = None
            return last.response
        finally:
            await self._close_refused()
        raise AssertionError("stamina ends with an answer or an exception")

    async def _send_or_refuse(self) -> httpx.Response:
        response = await self.send()
        if response.status_code in self._to.retry.statuses:
            self._refused = response
            raise _TryAgain(self._to.name, response)
        self._to.budget.deposit()
        return response

    async def _close_refused(self) -> None:
        refused, self._refused = self._refused, None
        if refused is not None:
            await refused.aclose()

    def _next_wait(self, failure: Exception) -> bool | float:
        """Return the seconds to wait, True to wait as the policy says, or False to give up."""
        policy, sent = self._to.retry, self._sent
        if not isinstance(failure, _TryAgain | NotReached) or sent >= policy.attempts:
            return False
        wait_s = retry_after_s(failure.response) if isinstance(failure, _TryAgain) else None
        if wait_s is not None:
            # All who were told the same wait would otherwise come back in the same instant.
            wait_s += uniform(0, policy.wait_jitter_s)  # noqa: S311 - spreads load, hides nothing
        longest_s = policy.longest_wait_s(sent) if wait_s is None else wait_s
        if time.monotonic() + longest_s >= self._ends_at or not self._to.budget.withdraw():
            return False
        return True if wait_s is None else wait_s

    async def send(self) -> httpx.Response:
        """Send once, if the breaker lets it through."""
        permit = self._permit()
        self._sent += 1
        began = time.monotonic()
        try:
            response = await self._attempt()
        except FleetError as failure:
            if not (self._is_cut_short and isinstance(failure, DeadlineExceeded)):
                self._fail(permit)
            log.info("downstream_failed", dep=self._to.name, error=failure.code, exc_info=True)
            raise
        else:
            self._judge(permit, response.status_code)
            return response
        finally:
            # A cancelled call, and one that its caller cut short, has no opinion.
            permit.ignored()
            self._observe(time.monotonic() - began)

    def _permit(self) -> Permit:
        try:
            return self._to.breaker.permit()
        except BreakerOpen as exc:
            raise CircuitOpen(self._to.name, retry_after_s=exc.retry_after_s) from None

    def _judge(self, permit: Permit, status: int) -> None:
        was = self._to.breaker.state
        if status >= 500:
            self._fail(permit)
        # A 404 does not speak for the dependency among successes, but it does prove that it is back.
        elif status < 400 or (status != 429 and was == "half_open"):
            permit.succeeded()
            if was != self._to.breaker.state:
                log.info("breaker_closed", dep=self._to.name)

    def _fail(self, permit: Permit) -> None:
        was = self._to.breaker.state
        permit.failed()
        if was != "open" == self._to.breaker.state:
            log.warning("breaker_opened", dep=self._to.name)

    def _observe(self, seconds: float) -> None:
        if self._to.metrics is not None:
            self._to.metrics.downstream_seconds.labels(dep=self._to.name).observe(seconds)

    async def _attempt(self) -> httpx.Response:
        left_s = max(self._ends_at - time.monotonic(), 0.001)
        request = self._request
        with ClientSpan(request.method, self._facts) as span, translated(self._to.name):
            self._address(left_s, span.traceparent)
            async with asyncio.timeout(left_s):
                response = await self._inner.handle_async_request(request)
            span.answered(response.status_code)
        # Every transport for AsyncClient answers with an asynchronous stream.
        stream = cast(httpx.AsyncByteStream, response.stream)
        response.stream = Body(stream, self._to.name)
        return response

    def _facts(self) -> dict[str, str | int]:
        """Return what a span may say of the request: not its path or query, which hold names and values."""
        url = self._request.url
        facts: dict[str, str | int] = {
            "http.request.method": self._request.method,
            "server.address": url.host,
            "peer.service": self._to.name,
        }
        return {**facts, "http.request.resend_count": self._sent - 1} if self._sent > 1 else facts

    def _address(self, left_s: float, traceparent: str | None) -> None:
        """Write this attempt's timeouts and the headers that every hop carries on."""
        request = self._request
        request.extensions["timeout"] = {
            "connect": min(left_s, _CONNECT_S),
            "read": left_s,
            "write": left_s,
            "pool": left_s,
        }
        if self._to.forward_deadline:
            request.headers[TIMEOUT_HEADER] = str(int(left_s * 1000))
        if traceparent is not None and self._sets_traceparent:
            request.headers["traceparent"] = traceparent
