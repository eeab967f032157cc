"""What a tool declares about itself: the scope it needs, whether a person confirms it, what it touches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastmcp.tools import Tool

from fleet_common.approvals.planning import planner_of
from fleet_common.policy.catalogue import CatalogueTool, DataKind

SCOPE_META = "fleet/scope"
DATA_META = "fleet/data"
ASKS_FIRST_META = "fleet/asksFirst"
"""Set to true by a `task=` tool that asks its client something before it begins."""


def touches(*kinds: DataKind) -> dict[str, list[str]]:
    """Return the `meta` that says what a tool touches, so that `fleet policy check` can judge whole roles.

    Args:
        kinds: `untrusted`: it returns text that outsiders may have written; `private`: it returns data of the
            company; `public`: outsiders can see what it writes. None of them: nothing of the sort.
    """
    return {DATA_META: list(kinds)}


def scope_of(tool: Tool, service: str) -> str | None:
    """Return the scope a tool needs: its own word, else read or write by its annotation."""
    if tool.meta and SCOPE_META in tool.meta:
        return str(tool.meta[SCOPE_META])
    if tool.name.startswith("fleet_"):
        return None
    return f"{service}:{'read' if only_reads(tool) else 'write'}"


def only_reads(tool: Tool) -> bool:
    """Return whether the tool says that it changes nothing."""
    return tool.annotations is not None and tool.annotations.read_only_hint is True


def asks_first(tool: Tool) -> bool:
    """Return whether the tool's first round is a question: it runs inline, and the answers make the task."""
    return bool(tool.meta and tool.meta.get(ASKS_FIRST_META))


def is_confirmed(tool: Tool, fn: Callable[..., Any]) -> bool:
    """Return whether a person confirms each call where no approval rule says otherwise.

    The protocol takes a tool that says nothing for destructive, which would guard every tool; ours must say so.
    """
    is_destructive = tool.annotations is not None and tool.annotations.destructive_hint is True
    return planner_of(fn) is not None or is_destructive


def catalogue_tool(tool: Tool, fn: Callable[..., Any], service: str) -> CatalogueTool:
    """Return what the policy's lint must know about a tool.

    Raises:
        KeyError: the tool does not say what it touches.
    """
    declared = tool.meta or {}
    return CatalogueTool(
        name=tool.name,
        service=service,
        scope=scope_of(tool, service),
        touches=tuple(declared[DATA_META]),
        confirmed=is_confirmed(tool, fn),
    )
