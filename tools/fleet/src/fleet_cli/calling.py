"""One tool call over MCP, with FastMCP's client. Its import costs over a second, so only callers pay for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx
from fastmcp import Client
from fastmcp.client.auth import BearerAuth
from fastmcp.client.client import CallToolResult
from fastmcp.client.transports import StreamableHttpTransport
from fastmcp.exceptions import FastMCPError
from mcp import MCPError
from mcp_types import TextContent

from fleet_cli.errors import CallFailed


async def call_tool(
    url: str, key: str, tool: str, arguments: Mapping[str, Any], *, timeout_s: float
) -> CallToolResult:
    """Return what a tool answered, an error result included.

    Raises:
        CallFailed: nobody answers at `url`, the key is refused, or the answer is not MCP.
    """
    transport = StreamableHttpTransport(url, auth=BearerAuth(key))
    try:
        async with Client(transport, timeout=timeout_s) as client:
            result: CallToolResult = await client.call_tool(
                tool, dict(arguments), raise_on_error=False
            )
            return result
    except (FastMCPError, MCPError, RuntimeError, httpx.HTTPError, OSError) as exc:
        raise CallFailed(f"The call did not reach the tool: {exc}", hint=_hint(exc)) from exc


def text_of(result: CallToolResult) -> str:
    """Return the text blocks of a result, as a person reads them."""
    return "\n".join(block.text for block in result.content if isinstance(block, TextContent))


def _hint(error: Exception) -> str | None:
    text = str(error)
    if "401" in text or "nauthorized" in text:
        return "The key was refused: see `fleet key list`, or unset FLEET_KEY to use the project's."
    if "connect" in text.lower():
        return "Is the fleet running? `fleet status` tells, `fleet run` starts it."
    return None
