"""What can be done with records that belong together: link them, find the ones that are the same, merge those."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict
from typing import Any, Protocol
from uuid import UUID

from fleet_common.approvals import Plan
from fleet_common.digests import digest_of
from fleet_common.errors import InvalidInput, NotFound
from fleet_data.claims import Caller
from fleet_data.crm.changing import Change, ChangeSet, changed, planned
from fleet_data.crm.deletion import label_of
from fleet_data.crm.models import MASK, FieldDef, ObjectDef, Scalar, Stored, Write
from fleet_data.crm.objects import OBJECTS
from fleet_data.crm.transaction import Transaction
from fleet_data.relations.models import Link, Linked, Merged, Merging, Pair
from fleet_data.relations.repository import references

_TYPE = re.compile(r"[a-z][a-z0-9_]{0,39}")


class RelationsTransaction(Transaction, Protocol):
    """A transaction that also changes what points at records."""

    async def link(self, link: Link) -> bool:
        """Return whether a link was made."""

    async def unlink(self, link: Link) -> bool:
        """Return whether a link was removed."""

    async def repoint(
        self, name: str, field: FieldDef, losers: Collection[UUID], winner: UUID
    ) -> int:
        """Return how many records of `name` point at the winner instead of a loser."""

    async def repoint_links(self, losers: Collection[UUID], winner: UUID) -> int:
        """Return how many links moved from a loser to the winner."""


class Store(Protocol):
    """Where links and records are."""

    async def pairs(self, caller: Caller, of: ObjectDef, *, limit: int) -> Sequence[Pair]:
        """Return pairs of records that share a key and whose names are alike."""

    def changing(
        self, caller: Caller, *, change_set: ChangeSet, keep: bool
    ) -> AbstractAsyncContextManager[RelationsTransaction]:
        """Yield a transaction that is kept when `keep` is true and nothing is raised."""


class Relations:
    """How records of a tenant hang together; each call says on whose behalf."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def link(
        self, caller: Caller, link: Link, *, remove: bool, key: str | None, dry_run: bool
    ) -> Linked:
        """Make a link, or remove it; one that is as it should be stays.

        Raises:
            InvalidInput: the type is no name, or both ends are one record.
            NotFound: one of the records is not there.
            KeyReused: the key was used with other arguments.
        """
        if not _TYPE.fullmatch(link.type):
            raise InvalidInput("type: a name of a-z, 0-9 and _ expected, such as decision_maker")
        if link.from_id == link.to_id:
            raise InvalidInput("a record cannot be linked to itself")
        told = [asdict(link), remove]
        call = Change(caller, "crm_link", told, key, dry_run)

        async def make(changes: RelationsTransaction) -> Any:
            for name, id_ in ((link.from_object, link.from_id), (link.to_object, link.to_id)):
                await _load(changes, OBJECTS[name], [id_])
            happened = await (changes.unlink(link) if remove else changes.link(link))
            outcome = ("removed" if remove else "created") if happened else "unchanged"
            made = str(call.id) if happened and not dry_run else None
            return {"outcome": outcome, "change_set_id": made, "dry_run": dry_run}

        return Linked(**await changed(self._store, call, make))

    async def duplicates(self, caller: Caller, name: str, *, limit: int) -> Sequence[Pair]:
        """Return pairs of records that may be the same, those that share most first.

        Raises:
            PermissionDenied: the names of the records are masked for the caller.
        """
        of = OBJECTS[name].masking(caller.masks)
        for field in ("first_name", "last_name") if name == "contact" else ("name",):
            of.usable(field)
        return await self._store.pairs(caller, of, limit=limit)

    async def plan_merge(self, caller: Caller, merging: Merging, key: str | None) -> Plan | None:
        """Return what a merge would do; None when the call was answered before.

        Raises:
            NotFound: one of the records is not there.
        """

        async def look(changes: RelationsTransaction) -> Plan:
            of = await _object(changes, caller, merging.name)
            winner, losers = await _records(changes, of, merging)
            gone = {f"deleted {n}": _named(of, each) for n, each in enumerate(losers, 1)}
            gets = {
                n: str(value) for n, (value, _) in _shown(of, _chosen(of, winner, losers)).items()
            }
            versions = [[str(each.id), each.version] for each in (winner, *losers)]
            return Plan(
                f"Merge {len(losers)} {of.name} records into {_named(of, winner)}",
                {**gone, **gets},
                digest_of(versions)[:16],
            )

        plan: Plan | None = await planned(self._store, _merge_call(caller, merging, key), look)
        return plan

    async def merge(
        self, caller: Caller, merging: Merging, *, key: str | None, dry_run: bool
    ) -> Merged:
        """Give the winner what it lacks of the losers and all that points at them, and delete the losers.

        Raises:
            InvalidInput: the winner is among the losers.
            NotFound: one of the records is not there.
            KeyReused: the key was used with other arguments.
        """
        call = _merge_call(caller, merging, key, dry_run=dry_run)

        async def make(changes: RelationsTransaction) -> Any:
            of = await _object(changes, caller, merging.name)
            winner, losers = await _records(changes, of, merging)
            chosen = _chosen(of, winner, losers)
            # First, so that their unique values are free.
            await changes.delete(of, [loser.id for loser in losers])
            if chosen:
                gains = {name: value for name, (value, _) in chosen.items()}
                await changes.write(of, [Write(0, winner.id, {**winner.values, **gains})])
            moved = await _repoint(changes, merging)
            made = None if dry_run else str(call.id)
            ids = [str(each.id) for each in losers]
            shown = _shown(of, chosen)
            return asdict(Merged(str(winner.id), ids, shown, moved, made, dry_run))

        return Merged(**await changed(self._store, call, make))


def _merge_call(
    caller: Caller, merging: Merging, key: str | None, *, dry_run: bool = False
) -> Change:
    return Change(caller, "crm_merge", asdict(merging), key, dry_run)


async def _object(changes: Transaction, caller: Caller, name: str) -> ObjectDef:
    """Return an object with the tenant's own fields, as the caller has it."""
    own = await changes.properties(name)
    return OBJECTS[name].extended([each.field for each in own]).masking(caller.masks)


async def _records(
    changes: Transaction, of: ObjectDef, merging: Merging
) -> tuple[Stored, list[Stored]]:
    """Return the winner and the losers, locked."""
    if merging.winner in merging.losers:
        raise InvalidInput("losers: the winner must not be among them")
    wanted = [merging.winner, *dict.fromkeys(merging.losers)]
    found = await _load(changes, of, wanted)
    return found[0], found[1:]


async def _load(changes: Transaction, of: ObjectDef, ids: Sequence[UUID]) -> list[Stored]:
    found = await changes.load(of, of.fields["id"], [str(id_) for id_ in ids])
    for id_ in ids:
        if str(id_) not in found:
            raise NotFound(of.name, id_)
    return [found[str(id_)] for id_ in ids]


def _chosen(
    of: ObjectDef, winner: Stored, losers: Sequence[Stored]
) -> dict[str, tuple[Scalar, str]]:
    """Return what the winner gets: what it lacks, from the first loser that has it, with that loser's id."""
    names = [field.name for field in of.writable]
    chosen: dict[str, tuple[Scalar, str]] = {}
    for loser in losers:
        for name in names:
            value = loser.values.get(name)
            if value is not None and winner.values.get(name) is None and name not in chosen:
                chosen[name] = (value, str(loser.id))
    return chosen


def _shown(of: ObjectDef, chosen: Mapping[str, tuple[Scalar, str]]) -> dict[str, list[Scalar]]:
    """Return the choice without what is masked, and of free texts only whose they are."""
    return {
        name: [MASK if of.fields[name].masked else "…" if of.fields[name].free_text else value, id_]
        for name, (value, id_) in chosen.items()
    }


async def _repoint(changes: RelationsTransaction, merging: Merging) -> dict[str, int]:
    moved = {
        f"{name}.{field.name}": await changes.repoint(name, field, merging.losers, merging.winner)
        for name, field in references(merging.name)
    }
    moved["link"] = await changes.repoint_links(merging.losers, merging.winner)
    return {where: count for where, count in moved.items() if count}


def _named(of: ObjectDef, stored: Stored) -> str:
    return f"{label_of(of, stored.values)} {stored.id}".strip()
