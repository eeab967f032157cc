"""What the tools that work on records share: hints, and the parameter that names the object."""

from __future__ import annotations

from typing import Annotated

from mcp_types import ToolAnnotations
from pydantic import Field

from fleet_common.policy import Grant
from fleet_data.crm.models import ObjectName

READS = ToolAnnotations(
    read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)
WRITES = ToolAnnotations(
    read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)
DESTROYS = ToolAnnotations(
    read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False
)

ObjectParam = Annotated[ObjectName, Field(description="Kind of record.")]


def not_theirs(grant: Grant) -> frozenset[str]:
    """Return the objects that the caller may not change: what everybody's records consist of is for administrators."""
    return frozenset() if "data:admin" in grant.scopes else frozenset({"property"})
