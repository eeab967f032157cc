from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from fleet_common.errors import NotFound
from fleet_common.mcp import HttpRoute, Runtime, Service
from fleet_common.mcp.app import create_app
from fleet_common.settings import ServiceSettings
from fleet_common.testing import serving, wait_until


@dataclass
class Shelf:
    """What the handlers use."""

    go: asyncio.Event = field(default_factory=asyncio.Event)
    asked: list[str] = field(default_factory=list)

    async def is_full(self) -> bool:
        return len(self.asked) == 64

    async def show(self, request: Request, deps: Shelf) -> Response:
        assert deps is self
        self.asked.append(request.path_params["id"])
        match request.path_params["id"]:
            case "missing":
                raise NotFound("thing", "missing")
            case "broken":
                raise RuntimeError("postgres://user:secret@host is down")
            case "slow":
                await self.go.wait()
        return PlainTextResponse("shown")


@pytest.fixture
async def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
async def http(tmp_path: Path, shelf: Shelf) -> AsyncGenerator[httpx.AsyncClient]:
    @asynccontextmanager
    async def opened(_settings: ServiceSettings, _runtime: Runtime) -> AsyncGenerator[Shelf]:
        yield shelf

    service = Service(
        name="things",
        version="1",
        instructions="Things.",
        settings=ServiceSettings,
        open_deps=opened,
        routes=(
            HttpRoute(path="/things/{id}", handle=shelf.show),
            HttpRoute(path="/secret/{id}", handle=shelf.show, is_secret=True),
        ),
    )
    settings = ServiceSettings(
        keys_file=tmp_path / "keys.json", audit_sink="file", audit_file=tmp_path / "audit.jsonl"
    )
    app = await asyncio.to_thread(create_app, service, settings)
    async with serving(app) as url, httpx.AsyncClient(base_url=url) as client:
        yield client


async def test_a_path_is_answered_with_what_the_tools_get(
    http: httpx.AsyncClient, shelf: Shelf
) -> None:
    response = await http.get("/things/7")
    assert (response.status_code, response.text) == (200, "shown")
    assert shelf.asked == ["7"]
    assert (await http.post("/things/7")).status_code == 405


@pytest.mark.parametrize(
    ("id_", "status", "code"), [("missing", 404, "not_found"), ("broken", 500, "internal")]
)
async def test_an_error_tells_its_code_and_nothing_else(
    http: httpx.AsyncClient, id_: str, status: int, code: str
) -> None:
    response = await http.get(f"/things/{id_}")
    assert response.status_code == status
    assert response.json()["code"] == code
    assert response.json().keys() <= {"code", "retryable", "trace_id"}


async def test_too_many_at_once_are_told_when_to_come_again(
    http: httpx.AsyncClient, shelf: Shelf
) -> None:
    async with asyncio.TaskGroup() as group:
        held = [group.create_task(http.get("/things/slow")) for _ in range(64)]
        await wait_until(shelf.is_full)
        refused = await http.get("/things/7")
        shelf.go.set()
    assert refused.status_code == 503
    assert refused.headers["retry-after"]
    assert {task.result().status_code for task in held} == {200}


async def test_every_answer_is_recorded_and_no_secret_path(
    http: httpx.AsyncClient, tmp_path: Path
) -> None:
    for path in ("/things/7?s=signature", "/things/missing", "/secret/token"):
        await http.get(path)
    written = tmp_path / "audit.jsonl"

    async def all_are_written() -> bool:
        return len(await asyncio.to_thread(requests_in, written)) == 3

    await wait_until(all_are_written)
    found = await asyncio.to_thread(requests_in, written)
    assert {(each["target"], each["outcome"]) for each in found} == {
        ("/things/7", "ok"),
        ("/things/{id}", "not_found"),
        ("/secret/{id}", "ok"),
    }


def requests_in(path: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in path.read_text().splitlines()]
    return [each for each in found if each.get("action") == "request"]
