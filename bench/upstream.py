"""The service behind each gateway: fifty echo tools in as little Python as MCP needs, for clients of both eras.

It costs next to nothing, so that what is measured is the gateway in front of it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

TOOLS = 50
INFO = {"name": "echo", "version": "1.0.0"}
ROWS = [
    {
        "name": f"crm_echo_{number}",
        "description": "Return the text.",
        "inputSchema": {
            "type": "object",
            "properties": {"text": {"type": "string"}},
            "required": ["text"],
        },
        "annotations": {"readOnlyHint": True},
    }
    for number in range(TOOLS)
]
EMPTY = ("prompts", "resources", "resourceTemplates")
CAPABILITIES: dict[str, Any] = {"tools": {}, "prompts": {}, "resources": {}}


async def answer(request: Request) -> Response:
    """Answer one JSON-RPC message."""
    if request.method != "POST":
        return Response(status_code=405)
    message = await request.json()
    if "id" not in message:
        return Response(status_code=202)
    result = _result(message["method"], message.get("params") or {})
    return JSONResponse({"jsonrpc": "2.0", "id": message["id"], "result": result})


def _result(method: str, params: Mapping[str, Any]) -> dict[str, Any]:
    if method == "tools/call":
        content = [{"type": "text", "text": params["arguments"]["text"]}]
        return {"resultType": "complete", "content": content}
    if method == "initialize":
        return {
            "protocolVersion": params["protocolVersion"],
            "capabilities": CAPABILITIES,
            "serverInfo": INFO,
        }
    if method == "server/discover":
        return {
            "supportedVersions": ["2026-07-28", "2025-11-25"],
            "capabilities": CAPABILITIES,
            "serverInfo": INFO,
            **_cached(),
        }
    if method == "tools/list":
        return {"tools": ROWS, **_cached()}
    return {key: [] for key in EMPTY} | _cached()


def _cached() -> dict[str, Any]:
    meta = {"io.modelcontextprotocol/serverInfo": INFO}
    return {"resultType": "complete", "ttlMs": 60_000, "cacheScope": "private", "_meta": meta}


async def ready(_: Request) -> Response:
    return Response(json.dumps({"ok": True}), media_type="application/json")


def serve(port: int) -> None:
    app = Starlette(
        routes=[
            Route("/mcp", answer, methods=["GET", "POST", "DELETE"]),
            Route("/readyz", ready),
        ]
    )
    uvicorn.run(app, port=port, http="h11", log_level="error")


if __name__ == "__main__":
    serve(int(sys.argv[1]))
