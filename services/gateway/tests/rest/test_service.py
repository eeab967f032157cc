from __future__ import annotations

import asyncio
from typing import Any, Protocol

import httpx
import pytest


class Fleet(Protocol):
    """What the fixture `fleet` gives (see conftest.py)."""

    url: str
    key: str
    sales_key: str
    services: dict[str, Any]
    events: Any

    def client(self, **headers: str) -> httpx.AsyncClient: ...


async def test_arguments_go_in_as_json_and_the_result_comes_out(fleet: Fleet) -> None:
    async with fleet.client() as http:
        echoed = await http.post("/api/tools/crm_echo", json={"text": "hé"})
        nothing = await http.post("/api/tools/gh_progress")
        own = await http.post("/api/tools/fleet_whoami")
    assert echoed.json() == {"text": "hé", "tenant": "demo", "credential": "internal"}
    assert nothing.json() == {"result": "done"}
    assert own.json()["tenant"] == "demo"


async def test_without_a_key_nothing_is_called(fleet: Fleet) -> None:
    async with httpx.AsyncClient(base_url=fleet.url) as http:
        assert (await http.post("/api/tools/crm_echo", json={"text": "x"})).status_code == 401
        keyed = {"x-api-key": fleet.key}
        response = await http.post("/api/tools/crm_echo", json={"text": "x"}, headers=keyed)
        assert response.status_code == 200


@pytest.mark.parametrize(
    ("tool", "body", "status", "code"),
    [
        ("crm_write", b'{"text": "x"}', 404, "unknown_tool"),
        ("no_such_tool", b"{}", 404, "unknown_tool"),
        ("crm_echo", b"{}", 400, "invalid_input"),
        ("crm_echo", b'{"text": {"not": "text"}}', 400, "invalid_input"),
        ("crm_echo", b"[1]", 400, "invalid_input"),
        ("crm_echo", b"{", 400, "invalid_input"),
        ("crm_echo", b"x" * 5_000_000, 413, "payload_too_large"),
        ("%00%0d%0a", b"{}", 404, "unknown_tool"),
        ("fleet_call_tool", b'{"name": 7}', 400, "invalid_input"),
    ],
)
async def test_errors_have_the_status_of_the_error_table(
    fleet: Fleet, tool: str, body: bytes, status: int, code: str
) -> None:
    async with fleet.client(traceparent=f"00-{'a' * 32}-{'b' * 16}-01") as http:
        response = await http.post(f"/api/tools/{tool}", content=body)
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert response.json()["error"]["traceId"] == "a" * 32


async def test_only_post_calls_a_tool(fleet: Fleet) -> None:
    async with fleet.client() as http:
        assert (await http.get("/api/tools/crm_echo")).status_code == 405


async def test_a_service_that_is_away_is_503_with_a_time_to_come_back(fleet: Fleet) -> None:
    async with fleet.client() as http:
        assert (await http.post("/api/tools/gh_progress")).status_code == 200
        await fleet.services["devops"].aclose()
        response = await http.post("/api/tools/gh_progress")
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) >= 1
    assert response.json()["error"]["retryable"] is True


async def test_a_client_that_hangs_up_cancels_the_tool(fleet: Fleet) -> None:
    async with fleet.client() as http:
        call = asyncio.create_task(http.post("/api/tools/crm_sleep"))
        async with asyncio.timeout(5):
            await fleet.events.started.wait()
            call.cancel()
            await fleet.events.cancelled.wait()
