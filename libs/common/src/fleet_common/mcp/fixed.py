"""FastMCP for a server whose tools are all known when it is built: what it then need not do for every call."""

from __future__ import annotations

from typing import Any

from fastmcp import FastMCP
from fastmcp.tools import Tool
from fastmcp.utilities.versions import VersionSpec


class FixedTools(FastMCP[Any]):
    """Finds a tool by one look.

    FastMCP asks every provider, transform and the session's visibility for each call, which costs about 160 µs and
    finds the same tool as long as there are none of these.
    """

    def fix(self, tools: list[Tool]) -> None:
        """Take `tools` for all there are."""
        self._fixed = {tool.name: tool for tool in tools}
        skip_hidden_list(self, tools)

    async def get_tool(self, name: str, version: VersionSpec | None = None) -> Tool | None:
        """Return the tool of this name; None if there is none."""
        if version is None and (tool := self._fixed.get(name)) is not None:
            return tool
        return await super().get_tool(name, version)


def skip_hidden_list(server: FastMCP[Any], tools: list[Tool]) -> None:
    """Give the SDK the input schemas, so that it does not list all tools before every modern call.

    FastMCP below 4.2 leaves `get_tool_input_schema` unset, which costs about 95 µs per registered tool and
    call. Delete when the floor is 4.2; a test counts the lists a call makes.
    """
    low_level = server._mcp_server  # noqa: SLF001 - FastMCP offers no public way before 4.2
    if low_level.get_tool_input_schema is None:
        low_level.get_tool_input_schema = {tool.name: tool.parameters for tool in tools}.get
