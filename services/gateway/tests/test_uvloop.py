"""The gateway on the event loop that it runs on in production; all other tests run on asyncio's own."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest
import uvicorn

from fleet_common.auth.keys import KeyFile
from fleet_common.testing import serving
from fleet_common.testing.upstream import status, upstream_server
from fleet_gateway.server import SERVICE, create_gateway
from fleet_gateway.settings import Settings

uvloop = pytest.importorskip("uvloop")


async def carried(settings: Settings, key: str) -> None:
    """Send calls through the gateway: small, over one connection, and too large to be kept."""
    assert isinstance(asyncio.get_running_loop(), uvloop.Loop)
    async with upstream_server() as service:
        service.answer("/mcp", status(200, '{"fine": true}'))
        service.answer("/readyz", status(200))
        told = settings.model_copy(update={"services": (f"data={service.url}",)})
        app = await asyncio.to_thread(create_gateway, SERVICE, told)
        headers = {"authorization": f"Bearer {key}"}
        async with (
            serving(app) as url,
            httpx.AsyncClient(base_url=url, headers=headers, timeout=9) as http,
        ):
            for body in (b"{}", b"{}", b"x" * 3_000_000):
                answer = await http.post("/data/mcp", content=body)
                assert (answer.status_code, answer.json()) == (200, {"fine": True})
                assert service.bodies[-1] == body


def test_calls_are_carried_on_uvloop(
    tmp_path: Path, keypair: tuple[Path, Path], keys: KeyFile
) -> None:
    key = keys.create(name="v", roles=["viewer"], tenant="demo")
    settings = Settings(keys_file=tmp_path / "keys.json", internal_private_key_file=keypair[0])
    uvloop.run(carried(settings, key.text))


def test_a_service_is_served_on_uvloop() -> None:
    assert uvicorn.Config(lambda: None).get_loop_factory() is uvloop.new_event_loop
