"""The gateway, data and devops on real sockets, with real PostgreSQL, a GitHub that answers, and a collector."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import httpx
import pytest

from fleet_cli.testing import PostgresServer
from fleet_common.auth.internal import generate_keypair
from fleet_common.auth.keys import KeyFile
from fleet_common.mcp import Service
from fleet_common.mcp.app import create_app
from fleet_common.testing import serving
from fleet_common.testing.collector import Collector, collector
from fleet_common.testing.upstream import Upstream, status, upstream_server
from fleet_data.demo.commands import create_tenant
from fleet_data.schema.commands import migrate_command
from fleet_data.server import SERVICE as DATA
from fleet_data.settings import Settings as DataSettings
from fleet_devops.server import SERVICE as DEVOPS
from fleet_devops.settings import DevopsSettings
from fleet_gateway.server import SERVICE as GATEWAY
from fleet_gateway.server import create_gateway
from fleet_gateway.settings import Settings as GatewaySettings


@dataclass
class Fleet:
    """Three processes' worth of apps.

    Attributes:
        spans: what all of them exported.
        github: what devops takes for GitHub.
    """

    http: httpx.AsyncClient
    key: str
    spans: Collector
    github: Upstream


@pytest.fixture(scope="session")
def data_settings(postgres_server: PostgresServer) -> Iterator[dict[str, Any]]:
    name = f"tracing_{uuid4().hex[:12]}"
    url = postgres_server.create_database(name)
    where = urlsplit(url)
    # Without TLS asyncpg looks for no certificate files while it connects, which would block the loop.
    base = f"{where.hostname}:{where.port}{where.path}?sslmode=disable"
    settings = {
        "migrator_url": urlunsplit(where._replace(query="sslmode=disable")),
        "reader_url": f"postgresql://crm_reader:reader-password@{base}",
        "database_url": f"postgresql://crm_writer:writer-password@{base}",
        "claims_key": "a-claims-key-for-tests-of-32-characters",
    }
    made = DataSettings.model_validate(settings)
    assert migrate_command(made, []) == 0
    asyncio.run(create_tenant(made, "demo"))
    yield settings
    postgres_server.drop_database(name)


@pytest.fixture
async def spans() -> AsyncGenerator[Collector]:
    async with collector() as spans:
        yield spans


@pytest.fixture
async def fleet(
    tmp_path: Path, data_settings: dict[str, Any], spans: Collector
) -> AsyncGenerator[Fleet]:
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    for path, pem in zip((private, public), generate_keypair(), strict=True):
        path.write_bytes(pem)
    keys = tmp_path / "keys.json"
    key = await asyncio.to_thread(
        KeyFile(keys).create, name="t", roles=["analyst", "operator"], tenant="demo"
    )
    inside: dict[str, Any] = {
        "keys_file": tmp_path / "no-keys.json",
        "internal_public_key_file": public,
        "tracing_endpoint": spans.url,
    }
    async with AsyncExitStack() as stack:
        github = await stack.enter_async_context(upstream_server())
        github.answer("/repos/o/r", status(404, "{}"))
        services: list[tuple[Service[Any, Any], Any]] = [
            (DATA, DataSettings.model_validate({**data_settings, **inside})),
            (DEVOPS, DevopsSettings(github_api_url=github.url, **inside)),
        ]
        urls = [
            f"{service.name}={await stack.enter_async_context(serving(app))}"
            for service, its_settings in services
            for app in [await asyncio.to_thread(create_app, service, its_settings)]
        ]
        settings = GatewaySettings(
            keys_file=keys,
            internal_private_key_file=private,
            services=tuple(urls),
            tracing_endpoint=spans.url,
        )
        gateway = await asyncio.to_thread(create_gateway, GATEWAY, settings)
        url = await stack.enter_async_context(serving(gateway))
        http = httpx.AsyncClient(base_url=url, headers={"authorization": f"Bearer {key.text}"})
        yield Fleet(await stack.enter_async_context(http), key.text, spans, github)
