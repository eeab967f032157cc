"""Deleting one record, softly: the row stays for the change log and for undoing, and nobody sees it any more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

from fleet_common.approvals import Plan
from fleet_common.errors import NotFound
from fleet_data.claims import Caller
from fleet_data.crm.changing import Change
from fleet_data.crm.models import ObjectDef, ObjectName, Scalar, Stored
from fleet_data.crm.objects import OBJECTS
from fleet_data.crm.transaction import Transaction
from fleet_data.errors import VersionConflict

_TOOL = "crm_delete"


@dataclass(frozen=True, slots=True)
class Deletion:
    """One call of crm_delete: the record, the version the caller thinks it is at, and the idempotency key."""

    caller: Caller
    name: ObjectName
    id: UUID
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
        told = [self.name, self.id, self.if_version]
        return Change(self.caller, _TOOL, told, self.key, self.dry_run)


@dataclass(frozen=True, slots=True)
class Deleted:
    """What became of a record: its last version, and the change set that the deletion is."""

    id: str
    version: int
    change_set_id: str
    dry_run: bool = False


async def plan_deletion(changes: Transaction, call: Deletion) -> Plan:
    """Return what `call` would delete.

    Raises:
        NotFound: there is no such record.
        VersionConflict: it is at another version than the caller thinks.
    """
    stored = await _found(changes, call, call.if_version)
    shown = {
        field.name: str(stored.values[field.name])
        for field in call.of.writable
        if field.listed and not field.masked and stored.values[field.name] is not None
    }
    return Plan(
        summary=f"Delete the {call.name} {label_of(call.of, stored.values) or stored.id}",
        details={"id": str(stored.id), "version": str(stored.version), **shown},
        object_version=str(stored.version),
    )


async def delete(
    changes: Transaction, call: Deletion, *, change_set: UUID, at_version: int | None
) -> Any:
    """Delete the record if it is at that version (None: at any) and return a `Deleted` as JSON.

    Raises:
        NotFound: there is no such record.
        VersionConflict: it is at another version.
    """
    stored = await _found(changes, call, at_version)
    last = await changes.delete(call.of, stored.id)
    return asdict(Deleted(str(stored.id), last, str(change_set), call.dry_run))


async def _found(changes: Transaction, call: Deletion, version: int | None) -> Stored:
    found = await changes.load(call.of, call.of.fields["id"], [str(call.id)])
    stored = found.get(str(call.id))
    if stored is None:
        raise NotFound(call.name, call.id)
    if version is not None and version != stored.version:
        raise VersionConflict(expected=version, found=stored.version)
    return stored


def label_of(of: ObjectDef, values: Mapping[str, Scalar]) -> str:
    """Return what people call the record, in quotes; nothing where only a free text could say."""
    named = [f.name for f in of.writable if f.searched and not f.free_text and not f.masked]
    label = " ".join(str(values[name]) for name in named if values[name] is not None)
    return f"“{label}”" if label else ""
