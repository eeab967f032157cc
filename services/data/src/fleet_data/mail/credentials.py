"""Where access tokens of other services come from: the port, and the one token of an operator's settings."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from pydantic import SecretStr

from fleet_common.errors import NotConfigured
from fleet_data.claims import Caller


class Credentials(Protocol):
    """Access tokens by tenant."""

    def session(self, provider: str, caller: Caller) -> AbstractAsyncContextManager[str]:
        """Yield a token of the account that the caller's tenant connected.

        Raises:
            NotConfigured: it connected none.
        """


class OneToken:
    """The token of the settings, for one tenant."""

    def __init__(self, provider: str, token: SecretStr | None, tenant: str) -> None:
        self._provider = provider
        self._token = token
        self._tenant = tenant

    @asynccontextmanager
    async def session(self, provider: str, caller: Caller) -> AsyncGenerator[str]:
        """Yield the token.

        Raises:
            NotConfigured: there is none for this provider and tenant.
        """
        if self._token is None or (provider, caller.tenant) != (self._provider, self._tenant):
            raise NotConfigured(f"this tenant has no {provider} account connected")
        yield self._token.get_secret_value()
