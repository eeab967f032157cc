"""`fleet_find_tools` and `fleet_call_tool`: all tools through two, for clients that connect with `?mode=search`."""

from __future__ import annotations

from typing import Annotated, Any

from fastmcp.dependencies import Depends
from fastmcp.server.dependencies import get_http_request
from fastmcp.tools import tool
from mcp_types import ToolAnnotations
from pydantic import BaseModel, Field

from fleet_common.auth import Principal
from fleet_common.errors import NotConfigured
from fleet_common.mcp import CurrentPrincipal, touches
from fleet_common.mcp.params import Limit
from fleet_gateway.deps import Deps, get_deps
from fleet_gateway.toolsets.models import Toolset, of_query
from fleet_gateway.toolsets.ranking import ranked


class FoundTool(BaseModel):
    """A tool as its service describes it."""

    name: str
    title: str
    description: str
    input_schema: dict[str, Any] = Field(description="JSON Schema of the arguments.")
    annotations: dict[str, Any] = Field(description="Hints such as readOnlyHint.")


class FoundTools(BaseModel):
    """What fits, the best first."""

    tools: list[FoundTool]
    searched: int = Field(description="How many tools were looked at.")


@tool(
    title="Find tools",
    meta=touches(),
    annotations=ToolAnnotations(
        read_only_hint=True, idempotent_hint=True, destructive_hint=False, open_world_hint=False
    ),
)
async def fleet_find_tools(
    query: Annotated[
        str, Field(min_length=1, max_length=400, description="What you want to do, in a few words.")
    ],
    limit: Limit = 5,
    deps: Deps = Depends(get_deps),
    principal: Principal = CurrentPrincipal(),
) -> FoundTools:
    """Find the tools that you may use for a task, with the schema of their arguments.

    Use it first, then call what you found with fleet_call_tool. It changes nothing.
    """
    toolset = _toolset()
    merged = await deps.lists.get("tools/list", principal)
    rows = [row for row in merged.rows if toolset.has(row.key) and not row.key.startswith("fleet_")]
    found = [row.parsed() for row in ranked(query, rows)[:limit]]
    return FoundTools(
        tools=[
            FoundTool(
                name=content["name"],
                title=content.get("title") or "",
                description=content.get("description") or "",
                input_schema=content.get("inputSchema") or {},
                annotations=content.get("annotations") or {},
            )
            for content in found
        ],
        searched=len(rows),
    )


@tool(
    title="Call a tool",
    meta=touches(),
    # What the tool inside may do is for it to say, so these are the worst.
    annotations=ToolAnnotations(
        read_only_hint=False, idempotent_hint=False, destructive_hint=True, open_world_hint=True
    ),
)
async def fleet_call_tool(
    name: Annotated[str, Field(description="Name of the tool, as fleet_find_tools gave it.")],
    arguments: Annotated[
        dict[str, Any] | None, Field(description="Its arguments, as its schema asks for them.")
    ] = None,
) -> dict[str, Any]:
    """Call a tool that fleet_find_tools found. It does what that tool does, under the same rights and approvals."""
    # The router sends the call to the tool itself; it ends here only where there is no router.
    raise NotConfigured(f"{name} cannot be called with {len(arguments or {})} arguments here")


def _toolset() -> Toolset:
    return of_query(get_http_request().scope["query_string"])
