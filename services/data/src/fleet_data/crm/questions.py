"""What a filter is about, found out before it is compiled: segments become their filters, objects get their fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from pydantic import TypeAdapter

from fleet_common.errors import InvalidInput, NotFound
from fleet_data.claims import Caller
from fleet_data.crm.filters import All, AnyOf, Filter, Has, InSegment, Not, fields_in
from fleet_data.crm.models import ObjectDef, Segment
from fleet_data.crm.objects import OBJECTS
from fleet_data.crm.properties import Definition, is_custom

_FILTER: TypeAdapter[Filter] = TypeAdapter(Filter)
_DEEPEST = 3  # segments within segments; one that is within itself is always deeper


class Known(Protocol):
    """What a tenant has of its own."""

    async def properties(self, caller: Caller, name: str) -> Sequence[Definition]:
        """Return the custom properties of an object."""

    async def segment(self, caller: Caller, id_: UUID) -> Segment | None:
        """Return a segment, or None when there is none."""


@dataclass(frozen=True, slots=True)
class Question:
    """An object and a filter on it that can be compiled.

    Attributes:
        of: the object as the caller has it.
        where: the filter; segments in it are lists of members.
        objects: every object that is asked about, by name.
    """

    of: ObjectDef
    where: Filter | None
    objects: Mapping[str, ObjectDef]


async def understood(
    known: Known, caller: Caller, name: str, where: Filter | None, fields: Iterable[str] = ()
) -> Question:
    """Return what is asked when `name` is searched by `where` and shown by `fields`.

    Raises:
        InvalidInput: there is no such object, or a segment cannot stand where it does.
        NotFound: there is no such segment.
    """
    where = await _unfolded(known, caller, name, where, _DEEPEST)
    named: dict[str, set[str]] = {name: set(fields)}
    for of, field in fields_in(where, name):
        named.setdefault(of, set()).add(field)
    objects = {
        of: await shown_to(known, caller, of, extended=is_custom(fields))
        for of, fields in named.items()
    }
    return Question(objects[name], where, objects)


async def shown_to(known: Known, caller: Caller, name: str, *, extended: bool = True) -> ObjectDef:
    """Return an object as the caller has it, with the tenant's own fields where they are needed.

    Raises:
        InvalidInput: there is no such object; the text lists those there are.
    """
    of = OBJECTS.get(name)
    if of is None:
        raise InvalidInput(f"no object {name[:60]!r}", hint=f"Objects: {', '.join(OBJECTS)}")
    if extended and of.is_extensible:
        own = await known.properties(caller, name)
        of = of.extended([definition.field for definition in own])
    return of.masking(caller.masks)


async def _unfolded(
    known: Known, caller: Caller, name: str, node: Filter | None, depth: int
) -> Filter | None:
    """Return the filter with every segment that is a filter replaced by that."""
    match node:
        case InSegment():
            return await _of_segment(known, caller, name, node, depth)
        case Has():
            inner = await _unfolded(known, caller, node.has, node.where, depth)
            return node.model_copy(update={"where": inner})
        case Not():
            inner = await _unfolded(known, caller, name, node.negated, depth)
            return node.model_copy(update={"negated": inner})
        case All():
            parts = [await _unfolded(known, caller, name, each, depth) for each in node.all]
            return node.model_copy(update={"all": parts})
        case AnyOf():
            parts = [await _unfolded(known, caller, name, each, depth) for each in node.any]
            return node.model_copy(update={"any": parts})
        case _:
            return node


async def _of_segment(
    known: Known, caller: Caller, name: str, node: InSegment, depth: int
) -> Filter | None:
    segment = await known.segment(caller, node.segment)
    if segment is None:
        raise NotFound("segment", node.segment)
    if segment.object != name:
        raise InvalidInput(f"the segment {segment.name} is of {segment.object}, not of {name}")
    if segment.filter is None:
        return node
    if depth == 0:
        raise InvalidInput(f"filter: at most {_DEEPEST} segments within each other")
    inner = _FILTER.validate_json(segment.filter)
    return await _unfolded(known, caller, name, inner, depth - 1)
