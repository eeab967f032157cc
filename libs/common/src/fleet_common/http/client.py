"""One pooled client per dependency: opened in the service's lifespan, closed with it."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import lru_cache
from http.cookiejar import CookieJar, DefaultCookiePolicy

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from fleet_common.http.breaker import Breaker
from fleet_common.http.retry import RetryBudget, RetryPolicy
from fleet_common.http.transport import Dependency, ResilientTransport
from fleet_common.metrics import Metrics

_KEEPALIVE_S = 30.0
_DNS_TTL_S = 30


@asynccontextmanager
async def open_client(
    *,
    name: str,
    base_url: str = "",
    timeout_s: float = 10.0,
    headers: Mapping[str, str] | None = None,
    retry: RetryPolicy | None = None,
    breaker: Breaker | None = None,
    metrics: Metrics | None = None,
    max_connections: int = 100,
    forward_deadline: bool = False,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[httpx.AsyncClient]:
    """Open a client with the httpx API on aiohttp's connections (a quarter of httpx's own CPU).

    Statuses are returned, whatever they are. Cookies are neither kept nor sent, because calls of
    several tenants share the client. Proxies and netrc of the environment are not read.

    Args:
        name: the dependency in errors, metrics and logs, such as "github"; a small closed set.
        base_url: put before relative URLs.
        timeout_s: most time until the head of the answer, retries and waits included, and longest
            silence within the body; less when the caller's deadline is nearer. `timeout=` of a
            single request replaces it.
        headers: sent with every request.
        retry: when to send again; `RetryPolicy()` by default.
        breaker: when to leave the dependency alone; a `Breaker()` of its own by default.
        metrics: where each attempt is observed as `mcp_downstream_seconds{dep=name}`, and the breaker seen as
            `mcp_breaker_open{dep=name}`.
        max_connections: most connections at once; further requests wait within their time.
        forward_deadline: tell the other side the time left, as `Fleet-Timeout-Ms`.
        tls: whom to trust; the authorities that the web trusts by default.

    Requests raise `DeadlineExceeded`, `Unavailable` (with `retry_after_s`) or `UpstreamFailed`.
    """
    async with (
        open_transport(
            name=name,
            retry=retry,
            breaker=breaker,
            metrics=metrics,
            max_connections=max_connections,
            forward_deadline=forward_deadline,
            tls=tls,
        ) as transport,
        client_on(transport, base_url=base_url, timeout_s=timeout_s, headers=headers) as client,
    ):
        yield client


@asynccontextmanager
async def open_transport(
    *,
    name: str,
    retry: RetryPolicy | None = None,
    breaker: Breaker | None = None,
    metrics: Metrics | None = None,
    max_connections: int = 100,
    forward_deadline: bool = False,
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[httpx.AsyncBaseTransport]:
    """Open what `open_client` stands on, for clients that come and go: see `client_on`."""
    policy = retry or RetryPolicy()
    dependency = Dependency(
        name=name,
        retry=policy,
        budget=RetryBudget(policy),
        breaker=breaker or Breaker(),
        metrics=metrics,
        forward_deadline=forward_deadline,
    )
    if metrics is not None:
        dependency.breaker.export(metrics, name)
    trusted = tls or _tls()
    async with _open_session(max_connections, trusted) as session:
        yield ResilientTransport(AiohttpTransport(trusted, client=session), dependency)


def client_on(
    transport: httpx.AsyncBaseTransport,
    *,
    base_url: str = "",
    timeout_s: float = 10.0,
    headers: Mapping[str, str] | None = None,
    auth: httpx.Auth | None = None,
) -> httpx.AsyncClient:
    """Return a client on an open transport; closing it closes the transport, so one of many is just let go.

    Args:
        transport: of `open_transport`.
        base_url: put before relative URLs.
        timeout_s: see `open_client`.
        headers: sent with every request.
        auth: signs every request.
    """
    return httpx.AsyncClient(
        transport=transport,
        base_url=base_url,
        headers=headers,
        auth=auth,
        timeout=timeout_s,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
        trust_env=False,
    )


def _open_session(max_connections: int, tls: ssl.SSLContext) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(
        limit=max_connections,
        ssl=tls,
        keepalive_timeout=_KEEPALIVE_S,
        ttl_dns_cache=_DNS_TTL_S,
    )
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    """Return the context that all clients share: loading the certificates takes 20-40 ms."""
    return httpx.create_ssl_context()
