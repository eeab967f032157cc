from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastmcp.server.dependencies import get_http_headers
from fastmcp.tools import tool
from mcp_types import ToolAnnotations

from fleet_common.auth.keys import KeyFile
from fleet_common.mcp import CurrentDeps, Runtime, Service
from fleet_common.mcp.app import create_app
from fleet_common.settings import ServiceSettings
from fleet_common.testing import serving
from fleet_common.testing.wire import answer, modern
from fleet_gateway.routing.nesting import MARKER_HEADER, Nesting
from fleet_gateway.server import SERVICE, create_gateway
from fleet_gateway.settings import Settings

KEY = b"a private key"


class Time:
    def __init__(self) -> None:
        self.seconds = 1_000_000.0

    def __call__(self) -> float:
        return self.seconds


def request(marker: str = "") -> dict[str, Any]:
    return {"headers": [(MARKER_HEADER.encode(), marker.encode())] if marker else []}


def test_a_call_that_carries_the_marker_of_any_replica_is_nested() -> None:
    marker = Nesting(KEY).marker(request())
    assert Nesting(KEY).is_nested(request(marker))
    assert not Nesting(KEY).is_nested(request())


def test_a_forged_marker_is_worth_nothing() -> None:
    nesting = Nesting(KEY)
    good = nesting.marker(request())
    depth, expires, mac = good.split(".")
    for marker in (
        Nesting(b"another key").marker(request()),
        f"{depth}.{int(expires) + 1}.{mac}",
        f"{depth}.{expires}.",
        f"{depth}.{expires}",
        "....",
        "\u00ff",
    ):
        assert not nesting.is_nested(request(marker)), marker


def test_a_marker_expires() -> None:
    time = Time()
    nesting = Nesting(KEY, now=time)
    marker = nesting.marker(request())
    time.seconds += 3600
    assert nesting.is_nested(request(marker))
    time.seconds += 61
    assert not nesting.is_nested(request(marker))


def test_the_fifth_call_inside_calls_needs_a_slot_again() -> None:
    nesting = Nesting(KEY)
    marker, depths = "", []
    for _ in range(6):
        marker = nesting.marker(request(marker))
        depths.append(nesting.is_nested(request(marker)))
    assert depths == [True, True, True, True, False, True]


@tool(annotations=ToolAnnotations(read_only_hint=True))
async def crm_inner() -> str:
    """Answer."""
    return "inner"


@tool(annotations=ToolAnnotations(read_only_hint=True))
async def gh_outer(call_back: dict[str, Any] = CurrentDeps()) -> str:
    """Call a tool of another service through the gateway."""
    inner = modern("tools/call", "crm_inner", arguments={})
    headers = {**inner["headers"], "authorization": f"Bearer {call_back['key']}"}
    if call_back["copies_marker"]:
        headers[MARKER_HEADER] = get_http_headers()[MARKER_HEADER]
    async with httpx.AsyncClient(timeout=5) as http:
        response = await http.post(f"{call_back['url']}/mcp", json=inner["json"], headers=headers)
    return f"outer of {response.status_code}"


@pytest.mark.parametrize(("copies_marker", "inner"), [(True, 200), (False, 503)])
async def test_with_one_slot_a_service_that_copies_the_marker_can_call_back(
    tmp_path: Path, keypair: tuple[Path, Path], copies_marker: bool, inner: int
) -> None:
    call_back: dict[str, Any] = {}

    @asynccontextmanager
    async def opened(_settings: Any, _runtime: Runtime) -> AsyncGenerator[dict[str, Any]]:
        yield call_back

    def app(name: str, tool_function: Any) -> Any:
        service: Service[Any, Any] = Service(
            name=name,
            version="1",
            instructions="",
            settings=ServiceSettings,
            open_deps=opened,
            tools=(tool_function,),
        )
        return create_app(
            service,
            ServiceSettings(
                keys_file=tmp_path / "none.json", internal_public_key_file=keypair[1], slots=1
            ),
        )

    keys = KeyFile(tmp_path / "keys.json")
    key = await asyncio.to_thread(keys.create, name="v", roles=["viewer"], tenant="demo")
    async with (
        serving(await asyncio.to_thread(app, "data", crm_inner)) as data,
        serving(await asyncio.to_thread(app, "devops", gh_outer)) as devops,
    ):
        settings = Settings(
            keys_file=tmp_path / "keys.json",
            internal_private_key_file=keypair[0],
            services=(f"data={data}", f"devops={devops}"),
            slots=1,
            queue=0,
        )
        gateway = await asyncio.to_thread(create_gateway, SERVICE, settings)
        async with serving(gateway) as url, httpx.AsyncClient(base_url=url, timeout=5) as http:
            call_back |= {"url": url, "key": key.text, "copies_marker": copies_marker}
            outer = modern("tools/call", "gh_outer", arguments={})
            outer["headers"]["authorization"] = f"Bearer {key.text}"
            response = await http.post("/mcp", **outer)
    assert answer(response)["result"]["content"][0]["text"] == f"outer of {inner}"
