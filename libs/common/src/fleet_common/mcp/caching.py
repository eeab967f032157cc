"""`@cached`: a tool that only reads answers from a cache for a while.

An answer is shared by callers of one tenant with the same roles and the same reach, for the same arguments of the same
version of the service, and by nobody else. So a cached tool must not know who calls: one that asks for its caller, or
may change anything, cannot be declared cached at all. Policy, switches, approvals, limits and audit come before the
cache; refusals and errors are never kept.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import mcp_types
from fastmcp.server.middleware import CallNext, MiddlewareContext
from fastmcp.tools import ToolResult
from mcp_types import ContentBlock
from pydantic import TypeAdapter
from pydantic_core import from_json, to_json

from fleet_common.cache import Cache
from fleet_common.mcp.identity import asks_for_its_caller
from fleet_common.policy import Grant

CACHE_META = "fleet/cache"
_MARK = "__fleet_cached__"
_CONTENT: TypeAdapter[list[ContentBlock]] = TypeAdapter(list[ContentBlock])

F = TypeVar("F", bound=Callable[..., Any])


def cached(ttl: timedelta) -> Callable[[F], F]:
    """Keep the tool's answers for `ttl`; goes above `@tool`.

    Raises:
        TypeError: when the module is imported: the function is no tool yet, may write, or asks for its caller.
    """

    def mark(fn: F) -> F:
        # Any: FastMCP's metadata has no public type.
        declared: Any = getattr(fn, "__fastmcp__", None)
        annotations = getattr(declared, "annotations", None)
        if annotations is None or annotations.read_only_hint is not True:
            raise TypeError(f"@cached goes above @tool, and {fn.__name__} must be read-only")
        if asks_for_its_caller(fn):
            raise TypeError(f"{fn.__name__} asks who calls: its answers cannot be shared")
        setattr(fn, _MARK, ttl)
        return fn

    return mark


def kept_for(fn: Callable[..., Any]) -> timedelta | None:
    """Return how long answers of a tool function are kept; None for not at all."""
    ttl = getattr(inspect.unwrap(fn), _MARK, None)
    return ttl if isinstance(ttl, timedelta) else None


class ToolCache:
    """The cached answers of one service's tools."""

    def __init__(self, cache: Cache, service: str, version: str) -> None:
        self._cache = cache
        self._of = (service, version)

    def before(
        self,
        call_next: CallNext[mcp_types.CallToolRequestParams, ToolResult],
        ttl: timedelta,
        grant: Grant,
    ) -> CallNext[mcp_types.CallToolRequestParams, ToolResult]:
        """Return what looks into the cache and calls `call_next` when there is nothing for this caller."""

        async def answer(
            context: MiddlewareContext[mcp_types.CallToolRequestParams],
        ) -> ToolResult:
            async def make() -> tuple[ToolResult, bytes | None]:
                result = await call_next(context)
                return result, _packed(result)

            tool = context.message.name
            return await self._cache.through(
                self._key(context.message, grant), name=tool, ttl=ttl, make=make, unpack=_unpacked
            )

        return answer

    def _key(self, message: mcp_types.CallToolRequestParams, grant: Grant) -> str:
        who = grant.principal
        facts = [
            *(*self._of, message.name, who.tenant, sorted(who.roles), sorted(grant.scopes)),
            *(
                grant.max_rows,
                grant.repositories,
                grant.namespaces,
                grant.databases,
                sorted(grant.masks),
            ),
            message.arguments or {},
        ]
        text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
        return f"fleet:cache:{hashlib.sha256(text.encode()).hexdigest()}"


def _packed(result: ToolResult) -> bytes | None:
    if type(result) is not ToolResult or result.is_error:
        return None
    content = _CONTENT.dump_python(result.content, mode="json", by_alias=True, exclude_none=True)
    return to_json([round(time.time() * 1000), content, result.structured_content, result.meta])


def _unpacked(packed: bytes) -> ToolResult:
    made_at_ms, content, structured, meta = from_json(packed)
    age_ms = max(0, round(time.time() * 1000) - made_at_ms)
    return ToolResult(
        content=_CONTENT.validate_python(content),
        structured_content=structured,
        meta={**(meta or {}), CACHE_META: {"ageMs": age_ms}},
    )
