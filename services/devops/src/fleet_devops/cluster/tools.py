"""The cluster as a model sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastmcp.dependencies import Depends
from fastmcp.tools import ToolResult, tool
from mcp_types import ToolAnnotations
from pydantic_core import to_json

from fleet_common.mcp import CurrentGrant, touches
from fleet_common.mcp.params import Cursor, Fields, Limit
from fleet_common.mcp.results import TABLE_SCHEMA, table
from fleet_common.policy import Grant
from fleet_devops.answers import MAX_TEXT_CHARS, document, schema_of
from fleet_devops.cluster.models import (
    FieldSelector,
    KindName,
    Namespace,
    ObjectFacts,
    ObjectName,
    Selector,
    WirePartial,
)
from fleet_devops.cluster.service import Cluster
from fleet_devops.deps import get_cluster
from fleet_devops.text import visible

# One configured cluster: a closed world, whose state changes by itself.
READS = ToolAnnotations(
    read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False
)


@tool(
    title="List objects",
    meta=touches("private"),
    annotations=READS,
    tags={"k8s"},
    output_schema=TABLE_SCHEMA,
)
async def k8s_list(
    kind: KindName,
    *,
    namespace: Namespace = None,
    selector: Selector = None,
    field_selector: FieldSelector = None,
    limit: Limit = 50,
    cursor: Cursor = None,
    cluster: Cluster = Depends(get_cluster),
    grant: Grant = CurrentGrant(),
) -> ToolResult:
    """List the Kubernetes objects of one kind, in the columns that kubectl shows.

    Narrow with selectors; k8s_get has one object in full.
    """
    page = await cluster.list_kind(
        grant,
        kind,
        namespace,
        selector=selector,
        field_selector=field_selector,
        limit=grant.rows(limit),
        cursor=cursor,
    )
    return table(
        page.columns,
        [[visible(cell) if isinstance(cell, str) else cell for cell in row] for row in page.rows],
        truncated=page.next_cursor is not None,
        next_cursor=page.next_cursor,
        note=f"{page.remaining} more follow" if page.remaining else None,
    )


@tool(
    title="Read an object",
    meta=touches("private"),
    annotations=READS,
    tags={"k8s"},
    output_schema=schema_of(ObjectFacts),
)
async def k8s_get(
    kind: KindName,
    name: ObjectName,
    *,
    namespace: Namespace = None,
    fields: Fields = None,
    cluster: Cluster = Depends(get_cluster),
    grant: Grant = CurrentGrant(),
) -> ToolResult:
    """Read one object of the Kubernetes cluster as JSON.

    `fields` picks dotted paths such as spec.replicas or status.conditions. Values of a Secret come as digests.
    """
    found = await cluster.get_object(grant, kind, name, namespace)
    wanted = {path: _at(found, path.split(".")) for path in fields} if fields else found
    text, left_out = _fitting(wanted)
    meta = WirePartial.model_validate({"metadata": found["metadata"]}).metadata
    facts = ObjectFacts(
        kind=str(found.get("kind", kind)),
        name=name,
        namespace=namespace,
        uid=meta.uid,
        resource_version=meta.resource_version,
        created_at=meta.creation_timestamp,
        truncated=bool(left_out),
        left_out=left_out,
    )
    return document(facts, text)


TOOLS = (k8s_list, k8s_get)


def _at(node: Any, path: Sequence[str]) -> Any:
    """Return what is at `path`; through a list, the values of all its elements."""
    # Any: a Kubernetes object is arbitrary JSON.
    if not path:
        return node
    if isinstance(node, list):
        return [_at(item, path) for item in node]
    return _at(node.get(path[0]), path[1:]) if isinstance(node, Mapping) else None


def _fitting(parts: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Return the parts that fit into the budget as JSON, and the names of those that do not."""
    budget = MAX_TEXT_CHARS
    kept, left_out = {}, []
    for name, value in parts.items():
        size = len(to_json(value))
        if size <= budget:
            budget -= size
            kept[name] = value
        else:
            left_out.append(name)
    if left_out:
        kept["left_out"] = left_out
    return visible(to_json(kept).decode()), left_out
