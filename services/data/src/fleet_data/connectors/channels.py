"""How this process reaches a provider."""

from __future__ import annotations

from dataclasses import dataclass

import httpx

from fleet_common.errors import NotConfigured
from fleet_common.http import client_on
from fleet_data.connectors.models import OAuthClient, Provider
from fleet_data.connectors.oauth import TokenEndpoint

_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Channel:
    """A provider, as this process reaches it.

    Attributes:
        client: what the operator registered there; None without it, and where none is needed.
    """

    provider: Provider
    transport: httpx.AsyncBaseTransport
    client: OAuthClient | None

    def open(self, auth: httpx.Auth | None = None) -> httpx.AsyncClient:
        """Return a client of the provider's API; it keeps nothing, so it needs no closing."""
        return client_on(
            self.transport, base_url=self.provider.api_url, timeout_s=_TIMEOUT_S, auth=auth
        )

    @property
    def tokens(self) -> TokenEndpoint:
        """Return where the provider gives tokens.

        Raises:
            NotConfigured: the operator registered nothing there.
        """
        if self.provider.oauth is None or self.client is None:
            raise NotConfigured(
                f"this fleet is not registered at {self.provider.title}",
                hint=f"The operator adds {self.provider.name}=ID:SECRET to FLEET_DATA_CONNECTOR_CLIENTS",
            )
        return TokenEndpoint(self.provider.name, self.provider.oauth, self.client, self.open())
