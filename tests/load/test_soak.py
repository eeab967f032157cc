"""Mixed calls in both protocol eras for minutes: every refusal has a reason, and memory does not grow."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections import Counter
from typing import Any, Protocol

import httpx
import psutil
import pytest

from fleet_common.testing.wire import answer, modern

SECONDS = float(os.environ.get("LOAD_SECONDS", "120"))
CALLERS = 24
WARM_UP = 0.3  # of the time; memory is compared from then on
GROWTH_MB = 24.0
LEGACY = "2025-11-25"
MIX: list[tuple[str, dict[str, Any]]] = [
    ("crm_search", {"object": "deal", "limit": 20}),
    ("crm_search", {"object": "contact", "query": "an", "limit": 5}),
    ("db_query", {"sql": "SELECT stage, count(*) FROM crm.deals GROUP BY stage"}),
    ("embed_texts", {"texts": ["which leads should I call today"]}),
    ("rag_search", {"query": "how do I connect a client"}),
    ("fleet_whoami", {}),
    ("no_such_tool", {}),
]

pytestmark = [pytest.mark.load, pytest.mark.timeout(SECONDS + 180)]


class Fleet(Protocol):
    """What the fixture `fleet` gives (see tests/conftest.py)."""

    key: str

    def origin(self, service: str) -> str: ...

    def children(self) -> dict[str, int]: ...


def request(tool: str, arguments: dict[str, Any], era: str) -> dict[str, Any]:
    if era != LEGACY:
        return modern("tools/call", tool, arguments=arguments)
    params = {"name": tool, "arguments": arguments}
    accept = {"accept": "application/json, text/event-stream", "mcp-protocol-version": LEGACY}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    return {"json": body, "headers": accept}


def outcome(response: httpx.Response) -> str:
    """Return the code of what happened; only what a caller can understand has one."""
    if response.status_code in {429, 503}:
        assert "retry-after" in response.headers
        return f"http {response.status_code}"
    assert response.status_code == 200, response.text
    message = answer(response)
    result = message.get("result") or {"isError": True, "_meta": {}}
    error = result.get("_meta", {}).get("fleet/error") or message.get("error", {}).get("data")
    return str(error["code"]) if result.get("isError") else "ok"


async def call_until(ends: float, fleet: Fleet, seen: Counter[tuple[str, str]], seed: int) -> None:
    dice = random.Random(seed)
    headers = {"authorization": f"Bearer {fleet.key}"}
    async with httpx.AsyncClient(
        base_url=fleet.origin("gateway"), headers=headers, timeout=35
    ) as http:
        while time.monotonic() < ends:
            tool, arguments = dice.choice(MIX)
            era = dice.choice(["2026-07-28", LEGACY])
            response = await http.post("/mcp", **request(tool, arguments, era))
            seen[tool, outcome(response)] += 1


def resident_mb(fleet: Fleet) -> dict[str, float]:
    services = ("gateway", "data", "devops", "aiml")
    pids = {name: pid for name, pid in fleet.children().items() if name in services}
    return {name: psutil.Process(pid).memory_info().rss / 1e6 for name, pid in pids.items()}


async def test_a_mixed_load_is_answered_and_leaves_no_memory_behind(
    fleet: Fleet, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: Counter[tuple[str, str]] = Counter()
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(CALLERS):
            group.create_task(call_until(began + SECONDS, fleet, seen, number))
        await asyncio.sleep(SECONDS * WARM_UP)
        warm = resident_mb(fleet)
    grown = {name: mb - warm[name] for name, mb in resident_mb(fleet).items()}

    with capsys.disabled():
        rate = sum(seen.values()) / SECONDS
        print(f"\n{rate:.0f} calls/s, {dict(sorted(seen.items()))}, grown by MB {grown}")
    assert {tool for tool, code in seen if code == "ok"} == {t for t, _ in MIX} - {"no_such_tool"}
    assert {code for tool, code in seen if tool == "no_such_tool"} <= {"unknown_tool", "http 503"}
    assert {code for tool, code in seen if tool != "no_such_tool"} <= {"ok", "http 503", "http 429"}
    assert max(grown.values()) < GROWTH_MB
