"""What is called: by tool, with what outcome, how large the answers are, and who had to be asked."""

from __future__ import annotations

from fleet_autoscale.dashboards.grid import Dashboard, Panel, Query, Row, Variable
from fleet_autoscale.dashboards.queries import per_second

_CHOSEN = 'service=~"$service"'


def dashboard() -> Dashboard:
    """Return the page."""
    service = Variable("service", "mcp_admission_limit")
    return Dashboard("mcp-tools", "MCP tools", [_calls(), _answers(), _people()], [service])


def _calls() -> Row:
    calls = per_second("mcp_tool_calls_total", "service, tool", _CHOSEN)
    refused = per_second("mcp_tool_calls_total", "tool, outcome", _CHOSEN, 'outcome!="ok"')
    well = per_second("mcp_tool_calls_total", "tool", _CHOSEN, 'outcome="ok"')
    all_calls = per_second("mcp_tool_calls_total", "tool", _CHOSEN)
    return Row(
        "Calls",
        [
            Panel("Most called", [Query(f"topk(10, {calls})", "{{service}} {{tool}}")], "reqps"),
            Panel(
                "Share that is answered",
                [Query(f"{well} / {all_calls}", "{{tool}}")],
                "percentunit",
            ),
            Panel("What is not", [Query(refused, "{{tool}} {{outcome}}")], "reqps", stacked=True),
        ],
    )


def _answers() -> Row:
    chars = per_second("mcp_tool_answer_chars_total", "tool", _CHOSEN)
    calls = per_second("mcp_tool_calls_total", "tool", _CHOSEN)
    cache = per_second("mcp_cache_total", "outcome", _CHOSEN)
    return Row(
        "Answers",
        [
            Panel("Characters an answer", [Query(f"topk(10, {chars} / {calls})", "{{tool}}")]),
            Panel("Cached answers", [Query(cache, "{{outcome}}")], "ops", stacked=True),
        ],
    )


def _people() -> Row:
    decided = per_second("mcp_approvals_total", "decision", _CHOSEN)
    return Row(
        "People", [Panel("Questions and decisions", [Query(decided, "{{decision}}")], "ops")]
    )
