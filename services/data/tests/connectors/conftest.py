"""A strict OAuth server, and the credentials of a service that is registered there."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from fleet_common.metrics import Metrics
from fleet_common.testing.http import serving
from fleet_data.connectors.credentials import Credentials
from fleet_data.connectors.opening import open_credentials
from fleet_data.settings import Settings
from fleet_data.testing.oauth import CLIENT_ID, CLIENT_SECRET, OAuthServer


@pytest.fixture
def oauth() -> OAuthServer:
    """What happens at the providers."""
    return OAuthServer()


@pytest.fixture
async def linked(settings: Settings, oauth: OAuthServer) -> AsyncGenerator[Settings]:
    """Settings of a service that is registered at the providers."""
    names = ("google", "hubspot", "linkedin")
    async with serving(oauth.app()) as url:
        told = {
            "connector_clients": ",".join(f"{n}={CLIENT_ID}:{CLIENT_SECRET}" for n in names),
            "connector_urls": ",".join(f"{name}={url}" for name in names),
            "links_url": "https://fleet.example.com",
        }
        yield Settings.model_validate({**settings.model_dump(), **told})


@pytest.fixture
def open_replica(
    open_database: Callable[[Settings], AbstractAsyncContextManager[Any]],
) -> Callable[[Settings], AbstractAsyncContextManager[Credentials]]:
    """Opens the credentials as one more replica of the service has them."""

    @asynccontextmanager
    async def opened(settings: Settings) -> AsyncGenerator[Credentials]:
        async with (
            open_database(settings) as database,
            open_credentials(settings, database, Metrics("data", "0")) as credentials,
        ):
            yield credentials

    return opened
