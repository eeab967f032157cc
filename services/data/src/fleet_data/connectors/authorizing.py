"""Proving who asks: the credential is added to each request on its way, for its own provider's origin and no other."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable

import httpx

from fleet_data.connectors.errors import ForeignOrigin
from fleet_data.connectors.models import Provider, Tokens

Renew = Callable[[Tokens], Awaitable[Tokens]]
"""Returns tokens in place of some that are not accepted any more."""


class Bearer(httpx.Auth):
    """Proves who asks, to the provider and to nobody else."""

    def __init__(self, provider: Provider, tokens: Tokens) -> None:
        self._provider = provider
        self._origin = _origin(httpx.URL(provider.api_url))
        self._tokens = tokens

    async def async_auth_flow(
        self, request: httpx.Request
    ) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Send the request, signed."""
        self._sign(request)
        yield request

    def _sign(self, request: httpx.Request) -> None:
        if _origin(request.url) != self._origin:
            raise ForeignOrigin(self._provider.name)
        request.headers["Authorization"] = f"Bearer {self._tokens.access}"


class Renewing(Bearer):
    """Proves who asks, and once more with a fresh token where the first one is not accepted."""

    def __init__(self, provider: Provider, tokens: Tokens, renew: Renew) -> None:
        super().__init__(provider, tokens)
        self._renew = renew

    async def async_auth_flow(
        self, request: httpx.Request
    ) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Send the request, and again after a 401: that one did nothing, so any request may be repeated."""
        self._sign(request)
        response = yield request
        if response.status_code == 401:
            self._tokens = await self._renew(self._tokens)
            self._sign(request)
            yield request


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port
