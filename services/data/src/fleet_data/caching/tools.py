"""The cache as an operator's model sees it."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastmcp.dependencies import Depends
from fastmcp.tools import tool
from mcp_types import ToolAnnotations
from pydantic import Field

from fleet_common.mcp import touches
from fleet_common.mcp.declared import SCOPE_META
from fleet_data.caching.models import Invalidated, Looked, Stats
from fleet_data.caching.service import Records
from fleet_data.claims import Caller
from fleet_data.crm.annotations import READS, AlikeObject
from fleet_data.crm.models import ObjectName
from fleet_data.deps import get_caller, get_records

_ADMIN = {SCOPE_META: "data:admin"}
_REPEATS = ToolAnnotations(
    read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)


@tool(title="Cache statistics", meta={**touches(), **_ADMIN}, annotations=READS, tags={"cache"})
async def cache_stats(
    caller: Caller = Depends(get_caller), records: Records = Depends(get_records)
) -> Stats:
    """Say whether records are read through the cache, and how often it had them. Changes nothing.

    Hits and misses are of the process that answers, since it started.
    """
    return await records.stats(caller)


@tool(title="Look into the cache", meta={**touches(), **_ADMIN}, annotations=READS, tags={"cache"})
async def cache_lookup(
    object: AlikeObject,  # noqa: A002 - the name callers know
    ids: Annotated[list[UUID], Field(min_length=1, max_length=100, description="1 to 100 ids.")],
    caller: Caller = Depends(get_caller),
    records: Records = Depends(get_records),
) -> Looked:
    """Say whether crm_get of exactly these records would come from the cache, and how long. Changes nothing."""
    return await records.lookup(caller, object, ids)


@tool(title="Empty the cache", meta={**touches(), **_ADMIN}, annotations=_REPEATS, tags={"cache"})
async def cache_invalidate(
    object: Annotated[  # noqa: A002 - the name callers know
        ObjectName | None, Field(description="Kind of record; all by default.")
    ] = None,
    caller: Caller = Depends(get_caller),
    records: Records = Depends(get_records),
) -> Invalidated:
    """Let every replica read the own tenant's records from the database again. No record changes.

    Needed only after a change that went past this service.
    """
    return await records.invalidate(caller, object)


TOOLS = (cache_lookup, cache_stats, cache_invalidate)
