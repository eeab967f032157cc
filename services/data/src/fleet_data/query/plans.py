"""PostgreSQL's plans, short enough for a model: a line per node, and what would help.

Estimates are rounded to one digit: they come from the statistics of whole tables, in which other tenants have rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from fleet_data.query.models import Plan

_MANY = 10_000
_ROWS = 1_000  # what db_query returns at most
_CONDITIONS = (
    "Index Cond",
    "Hash Cond",
    "Merge Cond",
    "Join Filter",
    "Filter",
    "Sort Key",
    "Group Key",
)
_CONDITION_CHARS, _STEPS, _HINTS = 160, 40, 4

_Node = dict[str, Any]


def shortened(plan: _Node) -> Plan:
    """Return the plan as lines with hints."""
    nodes = list(_walk(plan, 0))
    steps = [_line(node, depth) for node, depth in nodes[:_STEPS]]
    if len(nodes) > _STEPS:
        steps.append(f"… and {len(nodes) - _STEPS} more")
    hints = list(dict.fromkeys(hint for node, _ in nodes for hint in _hints(node)))
    rows = _round(plan["Plan Rows"])
    if rows > _ROWS:
        hints.insert(
            0, f"returns about {rows:,} rows: aggregate, filter or page, db_query cuts at {_ROWS:,}"
        )
    return Plan(steps, rows, _round(plan["Total Cost"]), hints[:_HINTS])


def _walk(node: _Node, depth: int) -> Iterator[tuple[_Node, int]]:
    yield node, depth
    for child in node.get("Plans", ()):
        yield from _walk(child, depth + 1)


def _line(node: _Node, depth: int) -> str:
    name = str(node["Node Type"])
    if node.get("Join Type", "Inner") != "Inner":
        name = f"{name} ({node['Join Type']})"
    over = [
        node[key]
        for key in ("Index Name", "Relation Name", "CTE Name", "Function Name")
        if key in node
    ]
    where = f" on {', '.join(over)}" if over else ""
    facts = f"{'  ' * depth}{name}{where} rows≈{_round(node['Plan Rows'])} cost≈{_round(node['Total Cost'])}"
    return facts + "".join(
        f"; {key.lower()} {_short(node[key])}" for key in _CONDITIONS if key in node
    )


def _short(condition: Any) -> str:
    text = ", ".join(condition) if isinstance(condition, list) else str(condition)
    return text if len(text) <= _CONDITION_CHARS else f"{text[:_CONDITION_CHARS]}…"


def _hints(node: _Node) -> Iterator[str]:
    kind, name = node["Node Type"], node.get("Relation Name", "")
    if kind == "Seq Scan" and node["Total Cost"] > _MANY and "Filter" in node:
        yield f"reads all of {name}: filter on an indexed column, or a smaller range"
    if kind == "Nested Loop" and node["Plan Rows"] > _MANY and "Join Filter" in node:
        yield "joins by comparing every pair: join on equality of indexed columns"
    if kind == "Nested Loop" and node["Plan Rows"] > _MANY and not _is_joined(node):
        yield "multiplies its inputs: a join condition may be missing"
    if kind == "Sort" and node["Plan Rows"] > 10 * _MANY:
        yield "sorts many rows: add LIMIT, or order by an indexed column"


def _is_joined(node: _Node) -> bool:
    inner = node.get("Plans", [{}])[-1]
    return any(key in node or key in inner for key in ("Join Filter", "Index Cond", "Cache Key"))


def _round(number: float) -> int:
    """Return the number to one significant digit."""
    if number < 1:
        return round(number)
    size = 10 ** math.floor(math.log10(number))
    return int(round(number / size) * size)
