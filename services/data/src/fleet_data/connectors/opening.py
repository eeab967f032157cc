"""Connectors as the settings say, opened with the service."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit

from pydantic import SecretStr

from fleet_common.http import open_transport
from fleet_common.metrics import Metrics
from fleet_common.settings import SettingsError
from fleet_data.connectors.channels import Channel
from fleet_data.connectors.connecting import Connections
from fleet_data.connectors.credentials import Credentials
from fleet_data.connectors.models import OAuthClient, Provider
from fleet_data.connectors.registry import PROVIDERS
from fleet_data.connectors.repository import AccountRepository
from fleet_data.connectors.vault import Vault
from fleet_data.pool import Database
from fleet_data.settings import Settings

REFRESH_S = 30.0
"""Time that a transaction needs which asks a token endpoint: a rotated token must still be stored."""
_CLIENTS, _URLS = "FLEET_DATA_CONNECTOR_CLIENTS", "FLEET_DATA_CONNECTOR_URLS"


@asynccontextmanager
async def open_connections(
    settings: Settings, database: Database, metrics: Metrics
) -> AsyncGenerator[Connections]:
    """Open the credentials, and what connects accounts."""
    async with open_credentials(settings, database, metrics) as credentials:
        store, vault = AccountRepository(database), Vault(settings.credentials_keys)
        yield Connections(credentials, store, vault, settings.links_url)


@asynccontextmanager
async def open_credentials(
    settings: Settings, database: Database, metrics: Metrics
) -> AsyncGenerator[Credentials]:
    """Open a way to every provider; nothing connects yet.

    Raises:
        SettingsError: a client, an address or a key is not what it should be.
    """
    clients, providers = _clients(settings.connector_clients), _providers(settings.connector_urls)
    async with AsyncExitStack() as stack:
        channels = {}
        for each in providers:
            transport = await stack.enter_async_context(
                open_transport(name=each.name, retry=each.retry, metrics=metrics)
            )
            channels[each.name] = Channel(each, transport, clients.get(each.name))
        credentials = Credentials(
            AccountRepository(database), Vault(settings.credentials_keys), channels
        )
        await stack.enter_async_context(credentials.opened())
        yield credentials


def _clients(told: Sequence[SecretStr]) -> Mapping[str, OAuthClient]:
    """Return what was registered, by provider; a mistake is told without repeating it."""
    clients = {}
    for each in told:
        name, _, pair = each.get_secret_value().partition("=")
        id_, _, secret = pair.partition(":")
        if not (id_ and secret and name in {p.name for p in PROVIDERS if p.oauth}):
            raise SettingsError(f"{_CLIENTS}: want provider=ID:SECRET, comma-separated")
        clients[name] = OAuthClient(id_, SecretStr(secret))
    return clients


def _providers(told: Sequence[str]) -> list[Provider]:
    """Return every provider, at another address where the operator says so."""
    bases = dict(each.partition("=")[::2] for each in told)
    if set(bases) - {each.name for each in PROVIDERS} or not all(map(_is_safe, bases.values())):
        raise SettingsError(f"{_URLS}: want provider=https://HOST, comma-separated")
    return [each.at(bases[each.name]) if each.name in bases else each for each in PROVIDERS]


def _is_safe(base: str) -> bool:
    """Return whether a credential may go there: encrypted, or not out of this machine."""
    url = urlsplit(base)
    local = url.scheme == "http" and url.hostname in {"127.0.0.1", "localhost", "::1"}
    return (local or url.scheme == "https") and bool(url.netloc) and url.path in {"", "/"}
