"""A segment that a model can read by address."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from fastmcp.dependencies import Depends
from fastmcp.resources import resource

from fleet_data.claims import Caller
from fleet_data.crm.filters import InSegment
from fleet_data.deps import get_caller, get_segments
from fleet_data.segments.service import Segments


@resource(
    "crm://segment/{id}",
    name="crm_segment",
    title="A segment",
    mime_type="application/json",
    tags={"segment"},
)
async def crm_segment(
    id: str,  # noqa: A002 - the name in the URI template
    caller: Caller = Depends(get_caller),
    segments: Segments = Depends(get_segments),
) -> str:
    """Return a segment by id or name: its filter, how many are in it now, and how many of them may be mailed."""
    segment = await segments.named(caller, id)
    where = InSegment(segment=UUID(segment.id))
    counts = (await segments.preview(caller, segment.object, where, sample=1)).counts
    told: dict[str, Any] = {"id": segment.id, "name": segment.name, "object": segment.object}
    told["kind"] = "static" if segment.filter is None else "filter"
    told["filter"] = segment.filter and json.loads(segment.filter)
    told["size"] = counts.size
    if counts.blocked is not None:
        told |= {"mailable": counts.mailable, "blocked": dict(counts.blocked)}
    return json.dumps(told, separators=(",", ":"))


RESOURCES = (crm_segment,)
