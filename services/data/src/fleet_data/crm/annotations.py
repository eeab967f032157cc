"""What the tools that work on records share: hints, and the parameter that names the object."""

from __future__ import annotations

from typing import Annotated, Any, get_args

from mcp_types import ToolAnnotations
from pydantic import Field, WithJsonSchema

from fleet_common.policy import Grant
from fleet_data.crm.filters import Filter, Operator
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
_ALIKE = {"type": "string", "description": "Kind, as in crm_search."}
AlikeObject = Annotated[ObjectName, WithJsonSchema(_ALIKE)]
"""The same, for a tool that lets crm_search list them."""
MaybeObject = Annotated[ObjectName | None, WithJsonSchema(_ALIKE)]

# The grammar in words: as nested definitions it costs many times the tokens. The models check it all the same.
_GRAMMAR = (
    '{"field":"amount","op":"gte","value":1000} with op '
    f"{'|'.join(get_args(Operator))}; times also as -30d, +2w; "
    '{"has":"deal","where":{…}}: a related record; {"segment":id}; {"all":[…]}, {"any":[…]}, {"not":{…}}.'
)


def _described(text: str) -> dict[str, Any]:
    return {"type": ["object", "null"], "description": text}


FilterParam = Annotated[Filter | None, WithJsonSchema(_described(_GRAMMAR))]
AlikeFilter = Annotated[Filter | None, WithJsonSchema(_described("As in crm_search."))]
"""The same, for a tool that lets crm_search explain it."""


def not_theirs(grant: Grant) -> frozenset[str]:
    """Return the objects that the caller may not change: what everybody's records consist of is for administrators."""
    return frozenset() if "data:admin" in grant.scopes else frozenset({"property"})
