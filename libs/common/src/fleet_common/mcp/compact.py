"""Schemas as a list shows them: what a model needs to fill arguments in and read an answer, and no more.

Every word of a tool is in every conversation. How long a text may be and which characters it may have is checked when
a call comes, and said in the error, and null for an optional argument is taken as well; so lists say neither. Of an
answer they name the facts; that `size_bytes` is a number is seen when it comes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from fastmcp.tools import FunctionTool, Tool

_CHECKED = frozenset({
    *("title", "additionalProperties", "minLength", "maxLength", "pattern", "maxProperties", "exclusiveMaximum"),
    *("patternProperties", "propertyNames"),
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
_SCALARS = ("string", "integer", "number", "boolean", ["string", "null"])
_NULL = {"type": "null"}
_DEFS = "#/$defs/"
_INT32 = 2**31 - 1

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
    return _rebuilt(_inlined(schema), _input)


def compact_output(schema: Mapping[str, Any]) -> Schema:
    """Return the schema of an answer, shorter: which facts there are, and which of them are lists or objects."""
    return _rebuilt(_inlined(schema), _output)


def _input(node: Mapping[str, Any]) -> Schema:
    kept = {key: value for key, value in node.items() if key not in _CHECKED}
    if not kept.get(
        "default", True
    ):  # no, none and empty are what leaving an argument out means anyway
        kept = _without_null(kept) if kept.pop("default") is None else kept
    if isinstance(kept.get("default"), dict):  # its parts have their own
        del kept["default"]
    for least in ("minItems", "minimum"):
        if kept.get(least) in (0, 1):
            del kept[least]
    if kept.get("maximum", 0) >= _INT32:
        del kept["maximum"]
    if kept.get("format") == "uuid":  # an id is copied from an answer, not made up
        del kept["format"]
    return kept


def _output(node: Mapping[str, Any]) -> Schema:
    kept = {key: value for key, value in node.items() if key not in _ASSUMED}
    if kept.get("type") in _SCALARS:
        return {}
    if not kept.get("items", True):
        del kept["items"]
    kinds = [choice for choice in kept.get("anyOf", ()) if choice != _NULL]
    if kept.keys() == {"anyOf"} and not any(kinds):  # one value or none
        return {}
    if len(kinds) == 1 and kinds[0].keys() == {"type"}:
        return {"type": [kinds[0]["type"], "null"]}
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


def _inlined(schema: Mapping[str, Any]) -> Schema:
    """Return the schema with definitions that are used once where they are used, and without those that are not."""
    whole = dict(schema)
    while once := _used_once(whole):
        body = whole["$defs"][once]
        rest = {name: each for name, each in whole["$defs"].items() if name != once}
        whole = _replaced({**whole, "$defs": rest}, once, body)
    if not whole.get("$defs", True):
        del whole["$defs"]
    return whole


def _used_once(schema: Mapping[str, Any]) -> str | None:
    """Return a definition that is used once or not at all, or None."""
    uses = Counter(_references(schema))
    defs = schema.get("$defs", {})
    return next(
        (name for name in defs if uses[name] <= 1 and name not in _references(defs[name])), None
    )


def _references(node: Any) -> Iterator[str]:
    """Yield the name of a definition each time it is used."""
    if isinstance(node, Mapping):
        if isinstance(target := node.get("$ref"), str):
            yield target.removeprefix(_DEFS)
        node = node.values()
    elif not isinstance(node, list):
        return
    for each in node:
        yield from _references(each)


# Any: whatever JSON holds.
def _replaced(node: Any, name: str, body: Mapping[str, Any]) -> Any:
    """Return the node with the definition `name` in the place of what refers to it."""
    if isinstance(node, list):
        return [_replaced(each, name, body) for each in node]
    if not isinstance(node, Mapping):
        return node
    parts = {key: _replaced(each, name, body) for key, each in node.items() if key != "$ref"}
    if node.get("$ref") == _DEFS + name:
        return {**body, **parts}
    return {**parts, "$ref": node["$ref"]} if "$ref" in node else parts
