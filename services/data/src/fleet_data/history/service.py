"""What can be done with the past: read it, and take a change set back."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, replace
from itertools import groupby
from typing import Any, Protocol
from uuid import UUID

from fleet_common.approvals import Plan
from fleet_common.digests import digest_of
from fleet_common.errors import Conflict, NotFound, PermissionDenied
from fleet_common.idempotency import Records
from fleet_data.claims import Caller
from fleet_data.crm.changing import Change, ChangeSet, changed, planned
from fleet_data.crm.cursor import CursorSigner
from fleet_data.crm.models import MASK, ObjectDef, Page, Position
from fleet_data.crm.objects import OBJECTS
from fleet_data.history.models import UNLOGGED, Entry, Reversal, Undone

COLUMNS = ("version", "changed_at", "actor", "tool", "change_set_id", "changes")
TABLES = {name: of.table for name, of in OBJECTS.items()}
"""Tables whose rows can be put back, by object."""

_UNDO = "crm_undo"
_NEWEST = 2**63 - 1
_SHOWN = 20


class Undoing(Protocol):
    """A transaction that puts records back."""

    @property
    def records(self) -> Records:
        """Return where idempotency keys are kept."""

    async def reversals(self, change_set: UUID) -> Sequence[Reversal]:
        """Return what undoing the set means, and lock its records."""

    async def restore(self, name: str, reversals: Sequence[Reversal]) -> int:
        """Return how many records of one object are as they were."""

    async def remove(self, name: str, reversals: Sequence[Reversal]) -> int:
        """Return how many records of one object are deleted."""


class Store(Protocol):
    """Where the change log is."""

    async def entries(
        self, caller: Caller, name: str, id_: UUID, *, before: int, limit: int
    ) -> Sequence[Entry]:
        """Return changes of a record below a number, newest first."""

    def changing(
        self, caller: Caller, *, change_set: ChangeSet, keep: bool
    ) -> AbstractAsyncContextManager[Undoing]:
        """Yield a transaction that is kept when `keep` is true and nothing is raised."""


class History:
    """The past of every tenant's records; each call says on whose behalf."""

    def __init__(self, store: Store, cursors: CursorSigner) -> None:
        self._store = store
        self._cursors = cursors

    async def of_record(
        self, caller: Caller, name: str, id_: UUID, *, limit: int, cursor: str | None = None
    ) -> Page:
        """Return one page of a record's changes, newest first; it may be deleted by now.

        Raises:
            InvalidInput: the cursor belongs to another question.
            NotFound: there never was such a record.
        """
        question = json.dumps([caller.tenant, "history", name, str(id_)])
        after = self._cursors.read(cursor, question=question) if cursor else None
        before = int(after.id) if after else _NEWEST
        found = await self._store.entries(caller, name, id_, before=before, limit=limit + 1)
        if not found and after is None:
            raise NotFound(name, id_)
        page, more = found[:limit], len(found) > limit
        end = Position(None, str(page[-1].number)) if more else None
        of = OBJECTS[name].masking(caller.masks)
        rows = [
            [e.version, e.changed_at, e.actor, e.tool, e.change_set_id, differences(of, e)]
            for e in page
        ]
        return Page(COLUMNS, rows, self._cursors.write(end, question=question) if end else None)

    async def plan_undo(self, call: Change, change_set: UUID) -> Plan | None:
        """Return what undoing the set would do; None when the call was answered before.

        Raises:
            NotFound: there is no such set.
            Conflict: records were changed since, or cannot be put back here.
        """

        async def look(changes: Undoing) -> Plan:
            found = await _reversals(changes, change_set)
            _refuse_conflicts(found)
            return _plan(change_set, found)

        plan: Plan | None = await planned(self._store, call, look)
        return plan

    async def undo(
        self, call: Change, change_set: UUID, *, but: frozenset[str] = frozenset()
    ) -> Undone:
        """Put every record of a change set back to what it was before; all of them or none.

        Args:
            call: see `undo_call`.
            change_set: what to undo.
            but: objects that the caller may not change.

        Raises:
            NotFound: there is no such set.
            Conflict: records were changed since; the text lists them. A dry run returns them instead.
            KeyReused: the key was used with other arguments.
        """
        call = replace(call, undoes=change_set)

        async def make(changes: Undoing) -> Any:
            found = await _reversals(changes, change_set, but=but)
            conflicts = [_named(each) for each in found if not each.is_as_left]
            if not (call.dry_run and conflicts):
                _refuse_conflicts(found)
                await _put_back(changes, found)
            done = [] if conflicts else [_named(each) for each in found]
            made = None if call.dry_run else str(call.id)
            return asdict(Undone(len(done), done[:_SHOWN], conflicts, made, call.dry_run))

        return Undone(**await changed(self._store, call, make))


def undo_call(caller: Caller, change_set: UUID, key: str | None, *, dry_run: bool) -> Change:
    """Return the change that a call of crm_undo is."""
    return Change(caller, _UNDO, [str(change_set)], key, dry_run)


def differences(of: ObjectDef, entry: Entry) -> dict[str, list[Any]]:
    """Return field → [before, after] of one change, without what is masked for the caller."""
    before, after = flat(entry.before or {}), flat(entry.after)
    return {
        name: [MASK, MASK] if _is_masked(of, name) else [before.get(name), after.get(name)]
        for name in {**before, **after}
        if name not in UNLOGGED and before.get(name) != after.get(name)
    }


def flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of the log with its custom properties beside its other values."""
    own = {name: value for name, value in row.items() if name != "props"}
    return {**own, **row.get("props", {})}


def _is_masked(of: ObjectDef, name: str) -> bool:
    field = of.fields.get(name)
    return field.masked if field else name in of.masks


async def _reversals(
    changes: Undoing, change_set: UUID, *, but: frozenset[str] = frozenset()
) -> Sequence[Reversal]:
    found = await changes.reversals(change_set)
    if not found:
        raise NotFound("change set", change_set)
    objects = {each.object for each in found}
    if foreign := objects - TABLES.keys():
        raise Conflict(f"this change set holds {', '.join(sorted(foreign))}, which has no undo")
    if denied := objects & but:
        raise PermissionDenied(f"this change set holds {', '.join(sorted(denied))}")
    return found


def _refuse_conflicts(found: Sequence[Reversal]) -> None:
    if names := [_named(each) for each in found if not each.is_as_left]:
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        raise Conflict(
            f"changed since: {', '.join(names[:_SHOWN])}{more}",
            hint="Undo the later change sets first; crm_history names them",
        )


async def _put_back(changes: Undoing, found: Sequence[Reversal]) -> None:
    """Put the records back; those that come back last, so that no unique value is there twice."""
    steps: list[tuple[Callable[[Reversal], bool], Callable[..., Awaitable[int]]]] = [
        (lambda each: each.made, changes.remove),
        (lambda each: not each.made and not each.revives, changes.restore),
        (lambda each: each.revives, changes.restore),
    ]
    for belongs, step in steps:
        for name, group in _by_object([each for each in found if belongs(each)]):
            if await step(name, group) != len(group):
                raise Conflict(f"a {name} was changed meanwhile")


def _by_object(found: Sequence[Reversal]) -> Iterator[tuple[str, list[Reversal]]]:
    ordered = sorted(found, key=lambda each: each.object)
    return ((name, list(group)) for name, group in groupby(ordered, key=lambda each: each.object))


def _plan(change_set: UUID, found: Sequence[Reversal]) -> Plan:
    counts = {
        f"{name}, {what}": str(sum(_does(each) == what for each in group))
        for name, group in _by_object(found)
        for what in sorted({_does(each) for each in group})
    }
    return Plan(
        summary=f"Undo the change set {change_set}: {len(found)} records",
        details=counts,
        object_version=digest_of([[each.id, each.version] for each in found])[:16],
    )


def _does(each: Reversal) -> str:
    return "deleted" if each.made else "brought back" if each.revives else "set back"


def _named(each: Reversal) -> str:
    return f"{each.object} {each.id}"
