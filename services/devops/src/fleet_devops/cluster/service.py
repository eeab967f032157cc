"""What can be read in a cluster, within what the caller may reach."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from pydantic import ValidationError
from pydantic_core import from_json

from fleet_common.errors import InvalidInput, NotFound, UpstreamFailed
from fleet_common.policy import Grant
from fleet_devops import cursors
from fleet_devops.cluster.kinds import built_in
from fleet_devops.cluster.models import (
    ResourceType,
    WireApiResourceList,
    WireGroup,
    WireList,
    WireTable,
)
from fleet_devops.cluster.redaction import presentable
from fleet_devops.reach import Reach

JSON = "application/json"
TABLE = f"application/json;as=Table;v=v1;g=meta.k8s.io,{JSON}"
_AGE_IS_ENOUGH = ("Name", "Created At")

T = TypeVar("T")


class KubeApi(Protocol):
    """What this service needs of a client."""

    async def get(
        self,
        path: str,
        params: Mapping[str, str] | None = None,
        *,
        accept: str,
        kind: str,
        key: str,
    ) -> bytes:
        """Return the body of a good answer, or raise a coded error."""
        ...


@dataclass(frozen=True, slots=True)
class Listing:
    """One page of a kind, in the server's own columns.

    Attributes:
        remaining: how many follow, when the server says so; it does not with a selector.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    remaining: int | None
    next_cursor: str | None


class Cluster:
    """Reads lists and objects for a caller.

    Args:
        api: the cluster.
        reach: which namespaces a caller may reach.
        digest_key: key of the digests that stand for Secret values.
    """

    def __init__(self, api: KubeApi, reach: Reach, *, digest_key: bytes) -> None:
        self._api = api
        self._reach = reach
        self._digest_key = digest_key
        self._found: dict[str, ResourceType] = {}

    async def list_kind(
        self,
        grant: Grant,
        kind: str,
        namespace: str | None,
        *,
        selector: str | None,
        field_selector: str | None,
        limit: int,
        cursor: str | None,
    ) -> Listing:
        """Return one page of a kind: in one namespace, or in all when `namespace` is None."""
        where = self._reach.namespace(grant, namespace)
        resource = await self._resource(kind)
        if where.name and not resource.namespaced:
            raise InvalidInput(f"{resource.kind} belongs to no namespace: leave namespace out")
        selectors = {"labelSelector": selector, "fieldSelector": field_selector}
        chosen = {name: value for name, value in selectors.items() if value}
        path = resource.path(where.name)
        question = (path, sorted(chosen.items()))
        across = resource.namespaced and where.name is None
        params = chosen | {
            "limit": str(limit),
            "includeObject": "Metadata" if across else "None",
            **_position(cursor, question),
        }
        body = await self._api.get(path, params, accept=TABLE, kind="kind", key=resource.kind)
        return _listing(_table(body), across=across, question=question)

    async def get_object(
        self, grant: Grant, kind: str, name: str, namespace: str | None
    ) -> dict[str, Any]:
        """Return one object, with what must not be shown already gone."""
        where = self._reach.namespace(grant, namespace)
        resource = await self._resource(kind)
        if resource.namespaced != (where.name is not None):
            wrong = "needs a namespace" if resource.namespaced else "belongs to no namespace"
            raise InvalidInput(f"{resource.kind} {wrong}")
        path = resource.path(where.name, name)
        body = await self._api.get(path, accept=JSON, kind=resource.kind, key=name)
        return presentable(_parsed(from_json, body), self._digest_key)

    async def _resource(self, kind: str) -> ResourceType:
        """Return the kind as the API serves it: built in, or `plural.group` found by discovery."""
        if resource := built_in(kind) or self._found.get(kind.lower()):
            return resource
        plural, _, group = kind.lower().partition(".")
        if not group:
            raise NotFound("kind", kind, hint="Custom kinds are written plural.group")
        return await self._discover(plural, group, kind)

    async def _discover(self, plural: str, group: str, kind: str) -> ResourceType:
        root = f"/apis/{group}"
        body = await self._api.get(root, accept=JSON, kind="kind", key=kind)
        version = _parsed(WireGroup.model_validate_json, body).preferred_version.version
        body = await self._api.get(f"{root}/{version}", accept=JSON, kind="kind", key=kind)
        for served in _parsed(WireApiResourceList.model_validate_json, body).resources:
            if plural in (served.name, served.singular_name, served.kind.lower()):
                found = ResourceType(group, version, served.name, served.kind, served.namespaced)
                self._found[kind.lower()] = found
                return found
        raise NotFound("kind", kind)


def _parsed(parser: Callable[[bytes], T], body: bytes) -> T:
    try:
        return parser(body)
    except ValueError as exc:  # pydantic's ValidationError is one, too
        raise UpstreamFailed("the cluster's answer has an unexpected shape") from exc


def _position(cursor: str | None, question: object) -> dict[str, str]:
    position = cursors.decode(cursor, question)
    return {"continue": position["continue"]} if "continue" in position else {}


def _table(body: bytes) -> WireTable:
    try:
        return WireTable.model_validate_json(body)
    except ValidationError:
        plain = _parsed(WireList.model_validate_json, body)
    rows = [
        {"cells": [item.metadata.name, item.metadata.creation_timestamp], "object": item}
        for item in plain.items
    ]
    return WireTable.model_validate(
        {
            "columnDefinitions": [{"name": name} for name in _AGE_IS_ENOUGH],
            "rows": rows,
            "metadata": plain.metadata,
        }
    )


def _listing(found: WireTable, *, across: bool, question: object) -> Listing:
    shown = [at for at, column in enumerate(found.column_definitions) if column.priority == 0]
    columns = [found.column_definitions[at].name for at in shown]
    rows: list[list[object]] = [[row.cells[at] for at in shown] for row in found.rows]
    if across:
        columns.insert(0, "Namespace")
        for cells, row in zip(rows, found.rows, strict=True):
            cells.insert(0, row.object.metadata.namespace if row.object else None)
    rest = found.metadata.continue_
    return Listing(
        columns,
        rows,
        found.metadata.remaining_item_count,
        cursors.encode({"continue": rest}, question) if rest else None,
    )
