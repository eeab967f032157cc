"""A client that hangs up while its query runs: the query ends in PostgreSQL, too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from starlette.applications import Starlette

from fleet_common.auth.keys import KeyFile
from fleet_common.mcp.app import create_app
from fleet_common.testing import serving, wait_until
from fleet_common.testing.wire import modern
from fleet_data.server import SERVICE
from fleet_data.settings import Settings

ENDLESS = "SELECT count(*) AS hung_up FROM generate_series(1, 10000000000) n"
RUNNING = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%AS hung_up FROM%' "


@pytest.fixture
def key(tmp_path: Path) -> str:
    return KeyFile(tmp_path / "keys.json").create(name="x", roles=["viewer"], tenant="demo").text


@pytest.fixture
def app(
    admin_url: str, make_settings: Callable[..., Settings], tmp_path: Path, key: str
) -> Starlette:
    # A minute: what ends the query within seconds is not its time limit.
    more: dict[str, Any] = {"keys_file": tmp_path / "keys.json", "query_timeout_s": 60.0}
    return create_app(SERVICE, make_settings(admin_url, default_timeout_s=60.0, **more))


async def test_a_client_that_hangs_up_ends_its_query_on_the_server(
    app: Starlette, key: str, admin_connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    async def running() -> int:
        mine = RUNNING + "AND datname = current_database() AND pid <> pg_backend_pid()"
        count: int = await admin_connection.fetchval(mine)
        return count

    async def is_running() -> bool:
        return await running() == 1

    async def has_ended() -> bool:
        return await running() == 0

    request = modern("tools/call", "db_query", arguments={"sql": ENDLESS})
    async with serving(app) as url, httpx.AsyncClient(base_url=url, timeout=60) as http:
        http.headers["authorization"] = f"Bearer {key}"
        call = asyncio.create_task(http.post("/mcp", **request), name="call")
        await wait_until(is_running)
        call.cancel()  # closes the connection: httpx keeps none that has an answer to come
        await asyncio.wait([call])
        await wait_until(has_ended)
