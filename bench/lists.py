"""How many bytes the tools of each service take in every conversation: what `tools/list` answers, as compact JSON."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import Any

from fastmcp.tools import Tool
from pydantic_core import to_json

from bench.report import Report
from fleet_common.mcp.approval import show_confirm_argument
from fleet_common.mcp.compact import short
from fleet_common.mcp.declared import is_confirmed

SERVICES = ("data", "devops", "aiml", "gateway")


def run() -> Report:
    """Measure the lists."""
    sizes = {
        name: sorted(_sizes(import_module(f"fleet_{name}.server").SERVICE.tools))
        for name in SERVICES
    }
    lines = ["| service | tools | bytes a tool | largest |", "|---|---|---|---|"]
    for name, each in sizes.items():
        lines.append(f"| {name} | {len(each)} | {sum(each) / len(each):,.0f} | {each[-1]:,} |")
    figures: dict[str, float | None] = {
        f"{name}_bytes_a_tool": round(sum(each) / len(each)) for name, each in sizes.items()
    }
    return Report(figures, "\n".join(lines))


# Any: each service's own functions.
def _sizes(functions: Iterable[Any]) -> Iterable[int]:
    for function in functions:
        tool = short(function if isinstance(function, Tool) else Tool.from_function(function))
        if is_confirmed(tool, function):
            show_confirm_argument(tool)
        yield len(
            to_json(tool.to_mcp_tool().model_dump(mode="json", by_alias=True, exclude_none=True))
        )
