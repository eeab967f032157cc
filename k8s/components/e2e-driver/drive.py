"""Calls the fleet from inside the cluster: `drive.py check`, or `drive.py load SERVICE SECONDS AT_ONCE`; prints JSON.

`make e2e` runs it in the pod of this component, on the gateway's image.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections import Counter
from typing import Any, Literal, TypeAlias

import httpx
from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport

Era: TypeAlias = Literal["auto", "legacy"]

GATEWAY = os.environ.get("E2E_GATEWAY", "http://gateway:8080")
KEY = os.environ["E2E_KEY"]
ERAS: tuple[Era, ...] = ("auto", "legacy")
# A call of each service to load it with, well within the scaling policy's `service_s` even on a slow machine, as a
# longer one says that a downstream is slow; and one to see that it answers. Any: arguments of a tool.
Call: TypeAlias = tuple[str, dict[str, Any]]
SLOW: dict[str, Call] = {
    "data": ("db_query", {"sql": "SELECT count(*) AS n FROM generate_series(1, 5000)"}),
    "devops": ("gh_file_read", {"owner": "admin", "repo": "shop", "path": "hello.txt"}),
    "aiml": ("embed_texts", {"texts": [f"{n} lamps are lit " * 15 for n in range(2)]}),
}
QUICK: dict[str, Call] = {
    "data": ("crm_search", {"object": "contact", "limit": 1}),
    "devops": (
        "k8s_list",
        {"kind": "Pod", "namespace": os.environ.get("E2E_NAMESPACE", "default")},
    ),
    "aiml": ("embed_texts", {"texts": ["a lamp"]}),
}
_LONGEST_WAIT_S = 5.0


async def check() -> dict[str, Any]:
    """Return, for each protocol era, how many tools are listed and whether a call of every service succeeds."""
    return {era: await _check(era) for era in ERAS}


async def _check(era: Era) -> dict[str, Any]:
    async with Client(StreamableHttpTransport(f"{GATEWAY}/mcp", auth=KEY), mode=era) as client:
        tools = await client.list_tools()
        calls = {}
        for service, (tool, arguments) in QUICK.items():
            result = await client.call_tool(tool, arguments, raise_on_error=False)
            calls[service] = not result.is_error
        return {"tools": len(tools), "calls": calls}


async def load(service: str, seconds: float, at_once: int) -> dict[str, Any]:
    """Return what became of the calls of `at_once` callers, who go on for `seconds` and heed Retry-After."""
    outcomes: Counter[str] = Counter()
    took: list[float] = []
    until = time.monotonic() + seconds
    limits = httpx.Limits(max_connections=at_once)
    headers = {"authorization": f"Bearer {KEY}"}
    async with (
        httpx.AsyncClient(base_url=GATEWAY, headers=headers, limits=limits, timeout=60) as http,
        asyncio.TaskGroup() as group,
    ):
        for _ in range(at_once):
            group.create_task(_caller(http, SLOW[service], until, outcomes, took))
    took.sort()
    p50, p95 = (round(took[int(len(took) * q)], 3) if took else None for q in (0.5, 0.95))
    return {"service": service, "outcomes": dict(outcomes), "p50_s": p50, "p95_s": p95}


async def _caller(
    http: httpx.AsyncClient, call: Call, until: float, outcomes: Counter[str], took: list[float]
) -> None:
    while time.monotonic() < until:
        began = time.monotonic()
        outcome, wait_s = await _one(http, call)
        outcomes[outcome] += 1
        if outcome == "ok":
            took.append(time.monotonic() - began)
        await asyncio.sleep(wait_s)


async def _one(http: httpx.AsyncClient, call: Call) -> tuple[str, float]:
    """Return what became of one call, and how long to wait before the next.

    "told" is a refusal that says when to come back: nothing is lost. Anything else was.
    """
    try:
        answer = await _sent(http, call)
    except httpx.HTTPError as exc:
        return type(exc).__name__, 0.5
    if answer.is_success:
        return "ok", 0.0
    if "retry-after" in answer.headers:
        return "told", min(float(answer.headers["retry-after"]), _LONGEST_WAIT_S)
    return f"{answer.status_code}", 0.5


async def _sent(http: httpx.AsyncClient, call: Call) -> httpx.Response:
    """Send a call, and once more when a pod that ends closes the connection just then: these calls only read."""
    tool, arguments = call
    try:
        return await http.post(f"/api/tools/{tool}", json=arguments)
    except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
        return await http.post(f"/api/tools/{tool}", json=arguments)


def main(words: list[str]) -> None:
    """Run one verb."""
    match words:
        case ["check"]:
            found = asyncio.run(check())
        case ["load", service, seconds, at_once]:
            found = asyncio.run(load(service, float(seconds), int(at_once)))
        case _:
            raise SystemExit("usage: drive.py check | load SERVICE SECONDS AT_ONCE")
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
