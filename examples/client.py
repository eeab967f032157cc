"""Thirty lines that talk to a fleet: `python examples/client.py`, with the key in FLEET_KEY."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

from fastmcp import Client
from fastmcp.client.transports import StreamableHttpTransport

URL = os.environ.get("FLEET_URL", "http://127.0.0.1:8080/mcp")


def connect() -> Client[Any]:
    """Return a client of the gateway that sends the key with every request."""
    headers = {"Authorization": f"Bearer {os.environ['FLEET_KEY']}"}
    return Client(StreamableHttpTransport(URL, headers=headers))


async def main() -> None:
    """List what the key may use, then ask the CRM which deals are the largest."""
    async with connect() as fleet:
        tools = await fleet.list_tools()
        print(f"{len(tools)} tools: {', '.join(tool.name for tool in tools)}")
        found = await fleet.call_tool(
            "crm_search",
            {"object": "deal", "sort": "-amount", "fields": ["name", "amount"], "limit": 5},
        )
        table = json.loads(found.content[0].text)
        for row in table["rows"]:
            print(dict(zip(table["columns"], row, strict=True)))


if __name__ == "__main__":
    asyncio.run(main())
