"""Results with one long part: it travels once, as text; the structured part holds the facts about it."""

from __future__ import annotations

from typing import Any, cast

from fastmcp.tools import ToolResult
from pydantic import BaseModel

MAX_TEXT_CHARS = 24_000
"""Budget of one result, about 6,000 tokens; what is over comes with the next call."""


def document(facts: BaseModel, text: str) -> ToolResult:
    """Return `text` for the model and `facts` for programs."""
    return ToolResult(content=text, structured_content=facts.model_dump(mode="json"))


def schema_of(facts: type[BaseModel]) -> dict[str, Any]:
    """Return the output schema of `document(facts, ...)`, without the titles nobody reads."""
    return cast(dict[str, Any], _untitled(facts.model_json_schema(mode="serialization")))


def _untitled(node: Any) -> Any:
    # Any: JSON Schema is arbitrary JSON. A title is a string; a property named "title" is a schema.
    match node:
        case dict():
            return {
                key: _untitled(value)
                for key, value in node.items()
                if not (key == "title" and isinstance(value, str))
            }
        case list():
            return [_untitled(item) for item in node]
        case _:
            return node
