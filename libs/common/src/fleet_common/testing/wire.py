"""Raw requests of the 2026-07-28 protocol, for tests that look at the wire itself."""

from __future__ import annotations

import json
from typing import Any

import httpx
from fastmcp.client.client import CallToolResult
from mcp_types import TextContent

MODERN = "2026-07-28"


def modern(method: str, name: str | None = None, **params: Any) -> dict[str, Any]:
    """Return the arguments of a raw request of the 2026-07-28 protocol."""
    meta = {
        "io.modelcontextprotocol/protocolVersion": MODERN,
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    headers = {
        "accept": "application/json, text/event-stream",
        "mcp-protocol-version": MODERN,
        "mcp-method": method,
    }
    if name:
        headers["mcp-name"] = name
        params["name"] = name
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}}
    return {"json": body, "headers": headers}


def about_task(method: str, task_id: str) -> dict[str, Any]:
    """Return the arguments of a raw `tasks/*` request by a client that declares the extension."""
    request = modern(method, taskId=task_id, inputResponses={})
    capabilities = request["json"]["params"]["_meta"]["io.modelcontextprotocol/clientCapabilities"]
    capabilities["extensions"] = {"io.modelcontextprotocol/tasks": {}}
    request["headers"]["mcp-name"] = task_id
    return request


def answer(response: httpx.Response) -> dict[str, Any]:
    """Return the JSON-RPC message of a plain or streamed answer."""
    text = response.text
    if response.headers["content-type"].startswith("text/event-stream"):
        text = next(line[6:] for line in text.splitlines() if line.startswith("data: {"))
    message: dict[str, Any] = json.loads(text)
    return message


def text(result: CallToolResult) -> str:
    """Return the text of a tool result that is one text."""
    (block,) = result.content
    assert isinstance(block, TextContent), block  # noqa: S101 - a test's own check
    return block.text
