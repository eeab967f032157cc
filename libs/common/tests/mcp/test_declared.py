from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fastmcp import FastMCP
from fastmcp.tools import tool
from mcp_types import ToolAnnotations

from fleet_common.approvals import Plan, needs_approval
from fleet_common.mcp import touches
from fleet_common.mcp.declared import catalogue_tool
from fleet_common.policy.catalogue import CATALOGUE, CatalogueTool


def declared(fn: Callable[..., Any]) -> CatalogueTool:
    server: FastMCP[Any] = FastMCP("test")
    return catalogue_tool(server.add_tool(fn), fn, "data")


@tool(annotations=ToolAnnotations(read_only_hint=True), meta=touches("untrusted", "private"))
async def crm_read() -> str:
    """Read."""
    return ""


@tool(annotations=ToolAnnotations(destructive_hint=True), meta=touches())
async def crm_delete() -> str:
    """Delete."""
    return ""


@tool(meta={**touches("public"), "fleet/scope": "data:send"})
async def mail_send() -> str:
    """Send."""
    return ""


@tool(meta=touches())
async def fleet_help() -> str:
    """Help."""
    return ""


@tool
async def crm_silent() -> str:
    """Say nothing about itself."""
    return ""


def test_the_catalogue_says_what_a_tool_declares() -> None:
    assert declared(crm_read) == CatalogueTool(
        name="crm_read",
        service="data",
        scope="data:read",
        touches=("untrusted", "private"),
        confirmed=False,
    )


@pytest.mark.parametrize(
    ("fn", "scope"),
    [(crm_delete, "data:write"), (mail_send, "data:send"), (fleet_help, None)],
)
def test_the_scope_is_the_tools_own_or_follows_from_what_it_does(
    fn: Callable[..., Any], scope: str | None
) -> None:
    assert declared(fn).scope == scope


def test_a_destructive_tool_and_one_with_a_plan_are_confirmed_by_a_person() -> None:
    async def plan(arguments: dict[str, Any], principal: object, deps: object) -> Plan | None:
        return None

    @needs_approval(plan=plan)
    @tool(meta=touches())
    async def crm_merge() -> str:
        """Merge."""
        return ""

    told = [declared(fn).confirmed for fn in (crm_delete, crm_merge, crm_read)]
    assert told == [True, True, False]


def test_a_tool_that_does_not_say_what_it_touches_is_in_no_catalogue() -> None:
    with pytest.raises(KeyError, match="fleet/data"):
        declared(crm_silent)


def test_a_catalogue_is_read_back_as_it_was_written() -> None:
    tools = (declared(crm_read), declared(crm_delete))
    assert CATALOGUE.validate_json(CATALOGUE.dump_json(tools)) == tools
