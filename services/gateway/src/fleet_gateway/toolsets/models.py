"""What a client asks of `/mcp` in its URL: `?tools=crm_*,rag_*` and `?mode=search`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from urllib.parse import parse_qs

from fleet_common.errors import InvalidInput

FIND, CALL = "fleet_find_tools", "fleet_call_tool"
_GLOB = re.compile(r"[a-z0-9_*]{1,64}")
_MOST_GLOBS = 32


@dataclass(frozen=True, slots=True)
class Toolset:
    """The part of the tools that a client works with.

    Attributes:
        globs: names that are in it; none means all. The fleet's own tools always are.
        is_search: the client finds tools instead of listing them.
    """

    globs: tuple[str, ...] = ()
    is_search: bool = False

    def has(self, tool: str) -> bool:
        """Return whether a tool can be found or called."""
        return (
            not self.globs
            or tool.startswith("fleet_")
            or any(fnmatchcase(tool, glob) for glob in self.globs)
        )

    def lists(self, tool: str) -> bool:
        """Return whether a tool is listed."""
        if tool in {FIND, CALL}:
            return self.is_search
        return self.has(tool) and (not self.is_search or tool.startswith("fleet_"))


@lru_cache(maxsize=256)
def of_query(query: bytes) -> Toolset:
    """Return the toolset that a query string asks for.

    Raises:
        InvalidInput: a glob or the mode is not one.
    """
    asked = parse_qs(query.decode("latin-1"), max_num_fields=16)
    globs = tuple(glob for text in asked.get("tools", ()) for glob in text.split(",") if glob)
    if len(globs) > _MOST_GLOBS or not all(_GLOB.fullmatch(glob) for glob in globs):
        raise InvalidInput("`tools` takes up to 32 names or globs, such as crm_*,rag_search")
    mode = asked.get("mode", ["list"])[-1]
    if mode not in {"list", "search"}:
        raise InvalidInput("`mode` is list or search")
    return Toolset(globs, mode == "search")
