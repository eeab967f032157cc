"""List requests on the wire, answered from the cache."""

from __future__ import annotations

import json
from typing import Any, Protocol

import httpx
import pytest

from fleet_common.testing.wire import answer, modern

CHECKED = {
    "wrong method header": {"mcp-method": "prompts/list"},
    "no json accepted": {"accept": "text/html"},
    "wrong content type": {"content-type": "text/plain"},
    "unknown version": {"mcp-protocol-version": "2099-01-01"},
}


class Fleet(Protocol):
    """What the fixture `fleet` gives (see conftest.py)."""

    def client(self, **headers: str) -> httpx.AsyncClient: ...


def legacy(**params: Any) -> dict[str, Any]:
    body = {"jsonrpc": "2.0", "id": "a", "method": "tools/list", "params": params}
    headers = {
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": "2025-11-25",
    }
    return {"json": body, "headers": headers}


async def test_each_answer_carries_the_id_of_its_request(fleet: Fleet) -> None:
    request = modern("tools/list")
    async with fleet.client() as http:
        for number in (1, 2, "three", '"quoted"'):
            request["json"]["id"] = number
            message = answer(await http.post("/mcp", **request))
            assert message["id"] == number
            assert len(message["result"]["tools"]) == 6


async def test_modern_answers_say_how_long_they_hold_and_for_whom(fleet: Fleet) -> None:
    async with fleet.client() as http:
        for _ in range(2):
            result = answer(await http.post("/mcp", **modern("tools/list")))["result"]
            assert result["cacheScope"] == "private"
            assert result["resultType"] == "complete"
            assert 0 < result["ttlMs"] <= 60_000
        assert set(answer(await http.post("/mcp", **legacy()))["result"]) == {"tools"}


async def test_a_request_that_is_wrong_is_refused_before_and_after_a_right_one(
    fleet: Fleet,
) -> None:
    right = modern("tools/list")
    async with fleet.client() as http:
        assert (await http.post("/mcp", **right)).status_code == 200
        for what, headers in CHECKED.items():
            wrong = {**right, "headers": {**right["headers"], **headers}}
            for _ in range(2):
                response = await http.post("/mcp", **wrong)
                assert 400 <= response.status_code < 500, what
        assert (await http.post("/mcp", **right)).status_code == 200


@pytest.mark.parametrize("broken", [{"jsonrpc": "1.0"}, {"id": None}, {"params": 7}, {"extra": 1}])
async def test_a_broken_envelope_is_judged_by_the_server_itself(
    fleet: Fleet, broken: dict[str, Any]
) -> None:
    right = modern("tools/list")
    wrong = {**right, "json": {**right["json"], **broken}}
    async with fleet.client() as http:
        await http.post("/mcp", **right)
        first, second = [await http.post("/mcp", **wrong) for _ in range(2)]
    assert first.status_code == second.status_code
    assert json.loads(first.text or "{}").keys() == json.loads(second.text or "{}").keys()


async def test_progress_tokens_and_traces_do_not_make_another_form(fleet: Fleet) -> None:
    async with fleet.client() as http:
        for token in range(3):
            request = legacy(_meta={"progressToken": token, "traceparent": f"00-{token}"})
            assert answer(await http.post("/mcp", **request))["id"] == "a"
