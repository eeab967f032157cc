"""Results that cost few tokens: rows travel once, as compact text; the structured part describes the envelope."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastmcp.tools import ToolResult
from pydantic_core import to_json

TABLE_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "columns": {"type": "array", "items": {"type": "string"}},
        "row_count": {"type": "integer"},
        "truncated": {"type": "boolean"},
        "next_cursor": {"type": ["string", "null"]},
    },
}
"""Output schema of every tool that returns `table(...)`: the envelope; a note and `extra` facts may stand beside."""

_FENCE = "untrusted"


def table(
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    truncated: bool = False,
    next_cursor: str | None = None,
    note: str | None = None,
    extra: Mapping[str, Any] | None = None,
    beside: Mapping[str, Any] | None = None,
) -> ToolResult:
    """Return rows as one compact JSON text and their envelope as structured content.

    Args:
        columns: names, in the order of the values of each row.
        rows: values; dates, UUIDs and decimals are written as JSON strings or numbers.
        truncated: there was more than is returned.
        next_cursor: where the next page starts.
        note: one sentence for the model, such as how to narrow the question.
        extra: further facts about the whole result, shown in both parts.
        beside: further rows, shown in the text alone.
    """
    envelope: dict[str, Any] = {
        "columns": list(columns),
        "row_count": len(rows),
        "truncated": truncated,
        "next_cursor": next_cursor,
        "note": note,
        **(extra or {}),
    }
    shown = {
        k: v for k, v in envelope.items() if v is not None and v is not False and k != "row_count"
    }
    shown |= {"rows": rows, **(beside or {})}
    return ToolResult(content=to_json(shown).decode(), structured_content=envelope)


def fence(text: str) -> str:
    """Return `text` marked as data that somebody else wrote, so that a model does not take it as an order.

    The closing mark cannot be forged from inside: any look-alike in the text is broken up.
    """
    inner = text.replace(f"</{_FENCE}", f"<\\/{_FENCE}")
    return f"<{_FENCE}>{inner}</{_FENCE}>"
