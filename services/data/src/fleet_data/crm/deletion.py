"""Deleting records, softly: the rows stay for the change log and for undoing, and nobody sees them any more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

from fleet_common.approvals import Plan
from fleet_common.digests import digest_of
from fleet_common.errors import Conflict, NotFound
from fleet_data.claims import Caller
from fleet_data.crm.changing import Change
from fleet_data.crm.filters import Filter
from fleet_data.crm.models import ObjectDef, ObjectName, Scalar, Stored
from fleet_data.crm.objects import OBJECTS
from fleet_data.crm.transaction import Transaction
from fleet_data.errors import VersionConflict

MOST = 500
"""Records that one call deletes."""

_TOOL = "crm_delete"
_NAMED = 15  # records that a plan names


@dataclass(frozen=True, slots=True)
class Deletion:
    """One call of crm_delete: which records, the version they must be at, and the idempotency key.

    Attributes:
        where: a filter that has found `ids`; which those are may change until the call is repeated.
    """

    caller: Caller
    name: ObjectName
    ids: Sequence[UUID] = ()
    where: Filter | None = None
    if_version: int | None = None
    key: str | None = None
    dry_run: bool = False

    @property
    def of(self) -> ObjectDef:
        """Return the object, with what the caller may not see masked."""
        return OBJECTS[self.name].masking(self.caller.masks)

    @property
    def change(self) -> Change:
        """Return the change that the call is."""
        which = [*self.ids] if self.where is None else self.where.model_dump(mode="json")
        told = [self.name, which, self.if_version]
        return Change(self.caller, _TOOL, told, self.key, self.dry_run)


@dataclass(frozen=True, slots=True)
class Deleted:
    """What became of the records: [id, deleted or missing, last version] each, and the change set that it is."""

    rows: Sequence[Sequence[Any]]
    change_set_id: str | None
    dry_run: bool = False


async def plan_deletion(changes: Transaction, call: Deletion) -> Plan:
    """Return what `call` would delete.

    Raises:
        NotFound: there is no such record.
        VersionConflict: one is at another version than the caller thinks.
    """
    found = await _found(changes, call)
    version = version_of(found)
    if len(found) == 1:
        [stored] = found
        shown = {
            field.name: str(stored.values[field.name])
            for field in call.of.writable
            if field.listed and not field.masked and stored.values[field.name] is not None
        }
        told = {"id": str(stored.id), "version": str(stored.version), **shown}
        return Plan(f"Delete the {call.name} {_named(call, stored)}", told, version)
    named = {str(number): _named(call, each) for number, each in enumerate(found[:_NAMED], 1)}
    more = {"and": f"{len(found) - _NAMED} more"} if len(found) > _NAMED else {}
    return Plan(f"Delete {len(found)} {call.name} records", {**named, **more}, version)


async def delete(
    changes: Transaction, call: Deletion, *, change_set: UUID, planned: str | None
) -> Any:
    """Delete the records, if they are as they were planned (None: as they are), and return a `Deleted` as JSON.

    Raises:
        NotFound: there is none of them.
        VersionConflict: one is at another version than the caller thinks.
        Conflict: they are not what was planned.
    """
    found = await _found(changes, call)
    if planned is not None and planned != version_of(found):
        raise Conflict("the records are not as they were approved", hint="Repeat the call")
    last = await changes.delete(call.of, [each.id for each in found])
    rows = [
        [str(id_), "deleted" if id_ in last else "missing", last.get(id_)]
        for id_ in dict.fromkeys(call.ids)
    ]
    made = None if call.dry_run else str(change_set)
    return asdict(Deleted(rows, made, call.dry_run))


def version_of(found: Sequence[Stored]) -> str:
    """Return what an approval is for: these records at these versions."""
    if len(found) == 1:
        return str(found[0].version)
    return digest_of([[str(each.id), each.version] for each in found])[:16]


async def _found(changes: Transaction, call: Deletion) -> list[Stored]:
    found = await changes.load(call.of, call.of.fields["id"], [str(id_) for id_ in call.ids])
    if not found:
        missing = call.ids[0] if len(call.ids) == 1 else "of these ids or this filter"
        raise NotFound(call.name, missing)
    for stored in found.values():
        if call.if_version is not None and call.if_version != stored.version:
            raise VersionConflict(expected=call.if_version, found=stored.version)
    return [found[id_] for id_ in sorted(found)]


def _named(call: Deletion, stored: Stored) -> str:
    return label_of(call.of, stored.values) or str(stored.id)


def label_of(of: ObjectDef, values: Mapping[str, Scalar]) -> str:
    """Return what people call the record, in quotes; nothing where only a free text could say."""
    named = [f.name for f in of.writable if f.searched and not f.free_text and not f.masked]
    label = " ".join(str(values[name]) for name in named if values[name] is not None)
    return f"“{label}”" if label else ""
