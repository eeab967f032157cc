"""Lists say what a model needs, and a call means what it meant."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import pytest
from fastmcp import Client, FastMCP
from fastmcp.exceptions import ToolError
from fastmcp.tools import Tool
from pydantic import BaseModel, Field

from fleet_common.mcp.compact import compact_input, compact_output, short


class Span(BaseModel):
    """From where to where."""

    first: Annotated[int, Field(ge=5, le=2**31 - 1)] = 7
    labels: Annotated[dict[str, str], Field(max_length=9)] = {}


class Answer(BaseModel):
    """What came of it.

    Attributes:
        kind: which.
    """

    kind: Literal["a", "b"]
    note: str | None = None
    names: list[str] = []
    others: list[str] | None = None
    ended_at: datetime | None = None


def ask(  # noqa: PLR0917 - parameters of a tool are named
    name: Annotated[str, Field(min_length=1, max_length=5, description="Name.")],
    kind: Literal["a", "b"] | None = None,
    most: Annotated[int, Field(ge=1, le=9)] = 3,
    dry_run: bool = False,
    ids: list[UUID] = [],  # noqa: B006 - never changed
    span: Annotated[Span, Field(description="Span.")] = Span(),  # noqa: B008 - never changed
) -> Answer:
    """Ask."""
    return Answer(kind=kind or "a", names=[name] * most)


def test_arguments_keep_what_a_model_needs_to_fill_them_in() -> None:
    assert compact_input(Tool.from_function(ask).parameters) == {
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": {"type": "string", "description": "Name."},
            "kind": {"type": "string", "enum": ["a", "b"]},
            "most": {"type": "integer", "maximum": 9, "default": 3},
            "dry_run": {"type": "boolean"},
            "ids": {"type": "array", "items": {"type": "string"}},
            "span": {
                "type": "object",
                "description": "Span.",
                "properties": {
                    "first": {"type": "integer", "minimum": 5, "default": 7},
                    "labels": {"type": "object"},
                },
            },
        },
    }


def test_answers_keep_their_facts_and_what_is_no_single_value() -> None:
    schema = Tool.from_function(ask).output_schema
    assert schema is not None
    assert compact_output(schema) == {
        "type": "object",
        "properties": {
            "kind": {},
            "note": {},
            "names": {"type": "array"},
            "others": {"type": ["array", "null"]},
            "ended_at": {},
        },
    }


@pytest.mark.parametrize(
    "schema",
    [
        {"anyOf": [{"type": "array"}, {"type": "object"}, {"type": "null"}]},
        {
            "type": "array",
            "items": {"type": "object", "properties": {"a": {"items": {"type": "object"}}}},
        },
        {"$ref": "#/$defs/Node"},
    ],
)
def test_what_has_no_shorter_form_stays(schema: dict[str, Any]) -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node"}}}
    whole = {"type": "object", "properties": {"it": schema}}
    if "$ref" in schema:
        whole["$defs"] = {"Node": node}
    assert compact_input(whole) == compact_output(whole) == whole


def test_a_definition_stands_where_it_is_used_once_and_nowhere_when_it_is_not() -> None:
    twice = {"$ref": "#/$defs/Twice"}
    schema = {
        "type": "object",
        "properties": {"a": {"$ref": "#/$defs/Once", "description": "A."}, "b": twice},
        "$defs": {
            "Never": {"type": "object"},
            "Once": {"type": "object", "description": "O.", "properties": {"c": twice}},
            "Twice": {"type": "array"},
        },
    }
    assert compact_input(schema) == {
        "type": "object",
        "properties": {
            "a": {"type": "object", "description": "A.", "properties": {"c": twice}},
            "b": twice,
        },
        "$defs": {"Twice": {"type": "array"}},
    }


async def test_a_short_tool_checks_and_answers_as_before() -> None:
    server: FastMCP[Any] = FastMCP("short")
    server.add_tool(short(Tool.from_function(ask)))
    async with Client(server) as client:
        [listed] = await client.list_tools()
        assert "fastmcp" not in (listed.meta or {})
        done = await client.call_tool("ask", {"name": "x", "kind": None})
        assert done.structured_content == {
            "kind": "a",
            "note": None,
            "names": ["x"] * 3,
            "others": None,
            "ended_at": None,
        }
        with pytest.raises(ToolError, match="name"):
            await client.call_tool("ask", {"name": "too long"})
