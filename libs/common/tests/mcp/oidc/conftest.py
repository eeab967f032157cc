"""A service that trusts a real authorization server: npm's oidc-provider, run by Node."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastmcp.client.auth import OAuth

from fleet_cli.engines.freeport import free_port
from fleet_common.mcp import Service
from fleet_common.mcp.app import create_app
from fleet_common.settings import ServiceSettings
from fleet_common.testing import serving
from fleet_common.testing.oidc import Browser, Provider, running_provider

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with running_provider(HERE) as started:
        yield started


@pytest.fixture
async def door(
    provider: Provider, service: Service[Any, Any], keys_path: Path
) -> AsyncGenerator[str]:
    """The URL of a service's first door."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    settings = ServiceSettings(
        keys_file=keys_path,
        oauth_issuer=provider.url,
        public_url=url,
        introspection_url=f"{provider.url}/token/introspection",
        introspection_client_id="machine",
        introspection_client_secret="machine-secret",
    )
    app = await asyncio.to_thread(create_app, service, settings)
    async with serving(app, port=port):
        yield f"{url}/mcp"


@pytest.fixture
def sign_in() -> Callable[..., OAuth]:
    """Make a client's sign-in; the words are those of FastMCP's `OAuth`."""

    def make(**options: Any) -> OAuth:
        return Browser(callback_host="127.0.0.1", **options)

    return make
