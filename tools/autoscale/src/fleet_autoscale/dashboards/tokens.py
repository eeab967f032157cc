"""Tokens: what answers cost the models that read them, and what waits for our own models."""

from __future__ import annotations

from fleet_autoscale.dashboards.grid import Dashboard, Panel, Query, Row
from fleet_autoscale.dashboards.queries import labels, per_second

CHARS_A_TOKEN = 4
"""Of English text and JSON, roughly, for today's tokenizers."""


def dashboard() -> Dashboard:
    """Return the page."""
    return Dashboard("mcp-tokens", "MCP tokens", [_read(), _ours()])


def _read() -> Row:
    note = f"Estimated: {CHARS_A_TOKEN} characters a token."
    by_service = per_second("mcp_tool_answer_chars_total", "service")
    by_tool = per_second("mcp_tool_answer_chars_total", "tool")
    calls = per_second("mcp_tool_calls_total", "tool", 'outcome="ok"')
    asked = (
        ("Tokens of answers a second", by_service, "{{service}}"),
        ("Most, by tool", f"topk(10, {by_tool})", "{{tool}}"),
        ("Tokens an answer", f"topk(10, {by_tool} / {calls})", "{{tool}}"),
    )
    return Row(
        "Read by models",
        [
            Panel(title, [Query(f"{expr} / {CHARS_A_TOKEN}", legend)], note=note)
            for title, expr, legend in asked
        ],
    )


def _ours() -> Row:
    waiting = f"sum by (engine) (aiml_queue_tokens{labels()})"
    oldest = f"max by (engine) (aiml_queue_oldest_seconds{labels()})"
    return Row(
        "For our own models",
        [
            Panel("Tokens that wait", [Query(waiting, "{{engine}}")]),
            Panel("Oldest input", [Query(oldest, "{{engine}}")], "s"),
            Panel("Slots they ask for", [Query(f"fleet:engine_slots{labels()}", "{{service}}")]),
        ],
    )
