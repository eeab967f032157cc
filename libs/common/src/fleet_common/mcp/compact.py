"""Schemas as a list shows them: what a model needs to fill arguments in and read an answer, and no more.

Every word of a tool is in every conversation. How long a text may be and which characters it may have is checked when
a call comes, and said in the error, and null for an optional argument is taken as well; so lists say neither.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastmcp.tools import FunctionTool, Tool

_CHECKED = frozenset({
    *("title", "additionalProperties", "minLength", "maxLength", "pattern", "maxProperties", "exclusiveMaximum"),
})  # fmt: skip
_ASSUMED = _CHECKED | {
    "required",
    "default",
    "description",
    "format",
    "minimum",
    "minItems",
    "maxItems",
}
_SCALARS = ("string", "integer", "number", "boolean")
_NULL = {"type": "null"}

Schema = dict[str, Any]


class ShortTool(FunctionTool):
    """A tool that is listed in few words."""

    def get_meta(self) -> dict[str, Any]:
        """Return what the tool says of itself, without FastMCP's tags: nobody filters by them."""
        return dict(self.meta or {})


def short(tool: Tool) -> Tool:
    """Return a tool that does the same and is listed in fewer words."""
    shorter: dict[str, Any] = {"parameters": compact_input(tool.parameters)}
    if tool.output_schema is not None:
        shorter["output_schema"] = compact_output(tool.output_schema)
    if not isinstance(tool, FunctionTool):
        return tool.model_copy(update=shorter)
    facts = {name: getattr(tool, name) for name in type(tool).model_fields}
    return ShortTool(**{**facts, **shorter})


def compact_input(schema: Mapping[str, Any]) -> Schema:
    """Return the schema of a tool's arguments, shorter."""
    return _rebuilt(schema, _input)


def compact_output(schema: Mapping[str, Any]) -> Schema:
    """Return the schema of an answer, shorter: which facts there are and of what type."""
    return _rebuilt(schema, _output)


def _input(node: Mapping[str, Any]) -> Schema:
    kept = {key: value for key, value in node.items() if key not in _CHECKED}
    if not kept.get(
        "default", True
    ):  # no, none and empty are what leaving an argument out means anyway
        kept = _without_null(kept) if kept.pop("default") is None else kept
    for least in ("minItems", "minimum"):
        if kept.get(least) in (0, 1):
            del kept[least]
    if kept.get("format") == "uuid":  # an id is copied from an answer, not made up
        del kept["format"]
    return kept


def _output(node: Mapping[str, Any]) -> Schema:
    kept = {key: value for key, value in node.items() if key not in _ASSUMED}
    if kept.get("type") in _SCALARS:
        kept.pop("enum", None)
    if kept.get("items", {}).get("type", "string") in _SCALARS:
        kept.pop("items", None)
    choices = kept.get("anyOf", ())
    kinds = [choice.get("type") for choice in choices]
    if len(kinds) == 2 and choices[1] == _NULL and choices[0] == {"type": kinds[0]}:
        return {"type": kinds}
    return kept


def _without_null(node: Schema) -> Schema:
    """Return the schema of an argument that may be left out, for when it is not."""
    kind = node.get("type")
    if isinstance(kind, list):
        return {**node, "type": next(each for each in kind if each != "null")}
    kinds = [choice for choice in node.get("anyOf", ()) if choice != _NULL]
    if len(kinds) != 1:
        return node
    return {**kinds[0], **{key: value for key, value in node.items() if key != "anyOf"}}


def _rebuilt(node: Mapping[str, Any], shorten: Callable[[Mapping[str, Any]], Schema]) -> Schema:
    """Return the schema with `shorten` applied to it and to each schema inside."""
    parts: Schema = {}
    for key, value in node.items():
        if key in ("properties", "$defs"):
            parts[key] = {name: _rebuilt(each, shorten) for name, each in value.items()}
        elif key in ("anyOf", "oneOf", "allOf"):
            parts[key] = [_rebuilt(each, shorten) for each in value]
        elif key in ("items", "additionalProperties") and isinstance(value, Mapping):
            parts[key] = _rebuilt(value, shorten)
        else:
            parts[key] = value
    return shorten(parts)
