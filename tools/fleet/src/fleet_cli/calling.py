"""One tool call over MCP, with FastMCP's client. Its import costs over a second, so only callers pay for it."""

from __future__ import annotations

import asyncio
import http.client
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from fastmcp import Client
from fastmcp.client.auth import BearerAuth
from fastmcp.client.client import CallToolResult
from fastmcp.client.elicitation import ElicitResult
from fastmcp.client.transports import StreamableHttpTransport
from fastmcp.exceptions import FastMCPError
from mcp import MCPError
from mcp_types import TextContent

from fleet_cli.errors import CallFailed

_IS_IT_UP = "`fleet status` tells whether the fleet runs, `fleet run` starts it."


async def call_tool(
    url: str,
    key: str,
    tool: str,
    arguments: Mapping[str, Any],
    *,
    timeout_s: float,
    asked: Callable[[str], bool] | None = None,
) -> CallToolResult:
    """Return what a tool answered, an error result included.

    Args:
        url: of the server's MCP door.
        key: of the caller.
        tool: its exact name.
        arguments: of the call.
        timeout_s: most time for all of it.
        asked: answers for the person whom the server asks before it goes on; nobody does by default.

    Raises:
        CallFailed: nobody answers at `url` in time, the key is refused, or the answer is not MCP.
    """
    transport = StreamableHttpTransport(url, auth=BearerAuth(key))
    try:
        async with (
            asyncio.timeout(timeout_s),
            Client(transport, elicitation_handler=_answering(asked)) as client,
        ):
            result: CallToolResult = await client.call_tool(
                tool, dict(arguments), raise_on_error=False
            )
            return result
    except MCPError as exc:
        # The client reports any refusal as "an error response": ask once more for the status.
        if refuses(url, key):
            raise CallFailed(
                f"{url} refused the key.",
                hint="`fleet key list` shows the valid ones; FLEET_KEY, when set, is used first.",
            ) from exc
        raise CallFailed(str(exc)) from exc
    except TimeoutError as exc:
        raise CallFailed(f"{url} did not answer within {timeout_s:g} s.", hint=_IS_IT_UP) from exc
    except (FastMCPError, RuntimeError, OSError) as exc:
        raise CallFailed(f"{url} could not be reached: {exc}", hint=_IS_IT_UP) from exc


def _answering(asked: Callable[[str], bool] | None) -> Any:
    """Return what answers the server's questions; Any: FastMCP's handlers have types of their own."""
    if asked is None:
        return None

    async def answer(message: str, *_: Any) -> ElicitResult[Any]:
        agreed = await asyncio.to_thread(asked, message)
        return ElicitResult(action="accept", content={"approve": agreed})

    return answer


def refuses(url: str, key: str) -> bool:
    """Whether the endpoint answers 401 to this key."""
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.netloc, timeout=5)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    try:
        connection.request("POST", parts.path, body="{}", headers=headers)
        return connection.getresponse().status == 401
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def text_of(result: CallToolResult) -> str:
    """Return the text blocks of a result, as a person reads them."""
    return "\n".join(block.text for block in result.content if isinstance(block, TextContent))
