"""The grammar of filters: conditions on fields, on related records and on segments, and how they combine.

```json
{"all": [
    {"has": "company", "where": {"has": "deal", "where": {"field": "amount", "op": "gt", "value": 50000}}},
    {"not": {"has": "activity", "where": {"field": "occurred_at", "op": "gte", "value": "-30d"}}}
]}
```
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

Operator = Literal[
    "eq",
    "ne",
    "lt",
    "lte",
    "gt",
    "gte",
    "in",
    "not_in",
    "contains",
    "starts_with",
    "is_null",
    "not_null",
]
_Value = str | int | float | bool | None
_RELATIVE = re.compile(r"([+-])(\d{1,4})([hdw])")
_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_FROZEN = ConfigDict(extra="forbid", frozen=True)


class Where(BaseModel):
    """A condition on one field."""

    model_config = _FROZEN

    field: str
    op: Operator = "eq"
    value: _Value | list[_Value] = None


class Has(BaseModel):
    """At least one record of an object that belongs to this one meets a condition.

    Attributes:
        has: the object.
        where: the condition; any record will do without one.
        link: type of the link between the two; without it, one of them names the other in a field.
    """

    model_config = _FROZEN

    has: str
    where: Filter | None = None
    link: str | None = None


class InSegment(BaseModel):
    """It is in a segment; one that is a filter is replaced by that filter before anything is asked."""

    model_config = _FROZEN

    segment: UUID


class All(BaseModel):
    """Every one of these holds."""

    model_config = _FROZEN

    all: Annotated[list[Filter], Field(min_length=1, max_length=20)]


class AnyOf(BaseModel):
    """At least one of these holds."""

    model_config = _FROZEN

    any: Annotated[list[Filter], Field(min_length=1, max_length=20)]


class Not(BaseModel):
    """This does not hold."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    negated: Filter = Field(alias="not")


def _kind(node: Any) -> str:
    """Return which node is meant, so that an error is about that one and not about all of them."""
    names = node if isinstance(node, dict) else getattr(type(node), "model_fields", ())
    marks = ("all", "any", "not", "negated", "has", "segment")
    return next((name for name in marks if name in names), "where")


Filter = Annotated[
    Annotated[Where, Tag("where")]
    | Annotated[Has, Tag("has")]
    | Annotated[InSegment, Tag("segment")]
    | Annotated[All, Tag("all")]
    | Annotated[AnyOf, Tag("any")]
    | Annotated[Not, Tag("not")]
    | Annotated[Not, Tag("negated")],
    Discriminator(_kind),
]
for _node in (Has, All, AnyOf, Not):
    _node.model_rebuild()


def fields_in(node: Filter | None, of: str) -> Iterator[tuple[str, str]]:
    """Yield (object, field) for every field that a filter on `of` is about, and (object, "id") where it joins one."""
    match node:
        case Where():
            yield of, node.field
        case Has():
            yield node.has, "id"
            yield from fields_in(node.where, node.has)
        case Not():
            yield from fields_in(node.negated, of)
        case All() | AnyOf():
            for child in node.all if isinstance(node, All) else node.any:
                yield from fields_in(child, of)
        case InSegment() | None:
            return


def moment(text: str) -> datetime | None:
    """Return the time that `-30d`, `+12h` or `-2w` means now; None for any other text."""
    found = _RELATIVE.fullmatch(text)
    if found is None:
        return None
    sign, count, unit = found.groups()
    distance = int(count) * _UNITS[unit]
    return datetime.now(UTC) + (distance if sign == "+" else -distance)
