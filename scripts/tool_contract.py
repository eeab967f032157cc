"""What callers of a service rely on, and what a new version may not take from them without saying so.

`services/<name>/tools.json` is that contract as it is in the tree; `make docs` writes it. A release compares it with
the one of the last release: a tool or an argument that is gone or renamed, an argument that must now be given, and
one that no longer takes what it took, all need the next major version (before 1.0: the next minor one).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

# Any: JSON.
Tools: TypeAlias = dict[str, dict[str, Any]]


def arguments(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the contract of one tool's parameters: each argument's types, and which must be given."""
    properties = schema.get("properties", {})
    return {
        "required": sorted(schema.get("required", [])),
        "takes": {name: sorted(_types(each)) for name, each in sorted(properties.items())},
    }


def breaks(before: Tools, after: Tools) -> list[str]:
    """Return what callers of `before` would miss in `after`, a sentence each."""
    gone = [f"{name} is gone" for name in before if name not in after]
    kept = [name for name in before if name in after]
    return gone + [text for name in kept for text in _broken(name, before[name], after[name])]


def permits_breaks(before: str, after: str) -> bool:
    """Return whether going from one version to the other tells callers that something may break."""
    old, new = _parts(before), _parts(after)
    return new[0] > old[0] or (old[0] == new[0] == 0 and new[1] > old[1])


def _broken(tool: str, before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    for name, types in before["takes"].items():
        if name not in after["takes"]:
            yield f"{tool} no longer takes {name}"
        elif missing := sorted({*types} - {*after["takes"][name]}):
            yield f"{tool} takes no {' or '.join(missing)} as {name}"
    for name in after["required"]:
        if name not in before["required"]:
            yield f"{tool} must now be given {name}"


def _types(schema: dict[str, Any]) -> set[str]:
    """Return the JSON types of an argument; an enum's values count as types of their own."""
    branches = [*schema.get("anyOf", []), *schema.get("oneOf", [])]
    if branches:
        return {each for branch in branches for each in _types(branch)}
    if "enum" in schema:
        return {f"{value!r}" for value in schema["enum"]}
    found = schema.get("type", "any")
    return {found} if isinstance(found, str) else {*found}


def _parts(version: str) -> tuple[int, int, int]:
    major, minor, patch = map(int, version.split("."))
    return major, minor, patch
