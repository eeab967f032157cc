"""The nouns of a cluster: kinds, the wire's tables, and what a tool says about an object."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

KindName = Annotated[
    str,
    Field(
        max_length=253,
        pattern=r"^[A-Za-z][A-Za-z0-9.-]*$",
        description="Pod, deployments or svc; custom ones as certificates.cert-manager.io.",
    ),
]
Namespace = Annotated[
    str | None,
    Field(
        max_length=63,
        pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$",
        description="Namespace; all of them, or none, without it.",
    ),
]
ObjectName = Annotated[
    str,
    Field(
        max_length=253, pattern=r"^[A-Za-z0-9][A-Za-z0-9.:_-]*$", description="Name of the object."
    ),
]
Selector = Annotated[
    str | None, Field(max_length=1000, description="Labels, such as app=web,tier!=cache.")
]
FieldSelector = Annotated[
    str | None, Field(max_length=1000, description="Such as status.phase=Pending.")
]


@dataclass(frozen=True, slots=True)
class ResourceType:
    """One kind as the API serves it.

    Attributes:
        group: API group; empty for the core group.
    """

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool

    def path(self, namespace: str | None, name: str | None = None) -> str:
        """Return the URL path of the collection, or of one object in it."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        scope = f"/namespaces/{quote(namespace, safe='')}" if namespace else ""
        tail = f"/{quote(name, safe='')}" if name else ""
        return f"{root}{scope}/{self.plural}{tail}"


class Wire(BaseModel):
    """JSON as the API writes it."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class WireMeta(Wire):
    """The part of an object's metadata that we read."""

    name: str = ""
    namespace: str | None = None
    uid: str | None = None
    resource_version: str | None = None
    creation_timestamp: datetime | None = None


class WirePartial(Wire):
    """An object of which only the metadata was asked for."""

    metadata: WireMeta = WireMeta()


class WireColumn(Wire):
    """A column; priority 0 is what kubectl shows without -o wide."""

    name: str
    priority: int = 0


class WireRow(Wire):
    """A row; `object` is there when it was asked for."""

    # Any: cells are strings, numbers, booleans or null.
    cells: list[Any]
    object: WirePartial | None = None


class WireListMeta(Wire):
    """Where a list goes on."""

    continue_: str = Field("", alias="continue")
    remaining_item_count: int | None = None


class WireTable(Wire):
    """meta.k8s.io/v1 Table: the server's own columns, an order of magnitude smaller than the objects."""

    column_definitions: list[WireColumn]
    rows: list[WireRow] = []
    metadata: WireListMeta = WireListMeta()


class WireList(Wire):
    """A plain list, from an API server extension that has no tables."""

    items: list[WirePartial]
    metadata: WireListMeta = WireListMeta()


class WireApiResource(Wire):
    """One kind in discovery."""

    name: str
    singular_name: str = ""
    kind: str
    namespaced: bool


class WireApiResourceList(Wire):
    """The kinds of one group and version."""

    resources: list[WireApiResource]


class WireGroupVersion(Wire):
    """A version of a group."""

    version: str


class WireGroup(Wire):
    """A group and the version its server prefers."""

    preferred_version: WireGroupVersion


class WireStatus(Wire):
    """How the API says no."""

    message: str = ""
    reason: str = ""


class ObjectFacts(BaseModel):
    """What k8s_get says beside the object, which is in the text as JSON."""

    kind: str
    name: str
    namespace: str | None
    uid: str | None
    resource_version: str | None
    created_at: datetime | None
    truncated: bool = Field(description="True when parts were left out for their size.")
    left_out: list[str] = Field(description="Those parts; ask for them with `fields`.")
