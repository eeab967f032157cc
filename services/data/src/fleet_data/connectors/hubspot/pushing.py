"""Telling HubSpot what changed here: a batch is read there first, merged, and only what is left is written.

Nothing here is done twice when it is begun twice: an update says whole values, and a new record is made under our own
id. Between reading and writing a record somebody may change it at HubSpot, which has no way to prevent that, and keeps
both values in the history of the property.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from fleet_data.claims import Caller
from fleet_data.connectors.hubspot.applying import apply
from fleet_data.connectors.hubspot.client import HubSpot, Sent, Written
from fleet_data.connectors.hubspot.mapping import LinkMap, ObjectMap, ours_of, write
from fleet_data.connectors.hubspot.models import (
    Candidate,
    Issue,
    IssueKind,
    Outgoing,
    Ref,
    Remote,
    Synced,
    Tally,
    Winner,
)
from fleet_data.connectors.hubspot.repository import SyncRepository, SyncTransaction
from fleet_data.crm.models import Scalar
from fleet_data.crm.objects import OBJECTS


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a batch came to, to be kept in one transaction."""

    tally: Tally
    refs: Sequence[Ref]


@dataclass(frozen=True, slots=True)
class Pusher:
    """Tells one account about the records of one tenant."""

    store: SyncRepository
    hubspot: HubSpot
    caller: Caller
    winner: Winner
    apply_deletes: bool = False

    async def push(self, of: ObjectMap, batch: Sequence[Candidate]) -> Pushed:
        """Write what HubSpot does not know of these records."""
        await self._bury(of, [c.external_id for c in batch if c.external_id and c.is_deleted])
        known = [c.external_id for c in batch if c.external_id and not c.is_deleted]
        fresh = [each.record_id for each in batch if each.external_id is None]
        remotes = await self.hubspot.read(of, known)
        tally = await self._meet(of, remotes, await self._twins(of, fresh))
        missing = sorted(set(known) - {each.id for each in remotes})
        async with self.store.changing(self.caller) as changes:
            lost = await lose(changes, of.object, missing, delete=self.apply_deletes)
            made = await _unknown(changes, of, fresh)
        tally.counts.update(lost.counts)
        return await self._tell(of, [*tally.outgoing, *made], tally)

    async def _bury(self, of: ObjectMap, gone: Sequence[str]) -> None:
        """Report records that were deleted here, and delete them there only if that was asked for."""
        if not gone:
            return
        if self.apply_deletes:
            await self.hubspot.archive(of, gone)
        tally = Tally()
        async with self.store.changing(self.caller) as changes:
            for ref in await changes.lose(of.object, gone, "gone_here"):
                there = " and at HubSpot" if self.apply_deletes else "; it is still at HubSpot"
                message = f"deleted here{there}"
                tally.report(
                    Issue(of.object, "deleted_here", message, ref.external_id, ref.record_id)
                )
            await changes.save_issues(tally)

    async def _twins(self, of: ObjectMap, fresh: Sequence[UUID]) -> list[Remote]:
        """Return records of HubSpot's that are ours by their key, though nobody has said so yet."""
        if of.key is None or not fresh:
            return []
        async with self.store.changing(self.caller, keep=False) as changes:
            found = await _load(changes, of, fresh)
        keys = [str(key) for each in found.values() if (key := each[1].get(of.key)) is not None]
        if not keys:
            return []
        theirs = of.fields[of.key].theirs
        if of.object == "contact":
            return await self.hubspot.read(of, keys, by=theirs)
        among = {"propertyName": theirs, "operator": "IN", "values": keys}
        return await self.hubspot.search(of, [among], sort="hs_object_id")

    async def _meet(self, of: ObjectMap, known: Sequence[Remote], twins: Sequence[Remote]) -> Tally:
        async with self.store.changing(self.caller) as changes:
            tally = await apply(changes, of, [*known, *twins], winner=self.winner)
            await changes.save_issues(tally)
        tally.issues.clear()
        return tally

    async def _tell(self, of: ObjectMap, due: Sequence[Outgoing], tally: Tally) -> Pushed:
        """Write records, then their links, and return what HubSpot knows by now."""
        told, unsaid = {}, {}
        for each in due:
            told[each.record_id], unsaid[each.record_id] = write(of, each.values)
        by_key = {each.external_id or str(each.record_id): each for each in due}
        updates = [Sent(k, told[each.record_id]) for k, each in by_key.items()
                   if each.external_id and told[each.record_id]]  # fmt: skip
        creates = [
            Sent(k, told[each.record_id]) for k, each in by_key.items() if not each.external_id
        ]
        if creates:
            await self.hubspot.ensure_record_id(of)
        updated = await self.hubspot.update(of, updates)
        made = await self.hubspot.upsert(of, creates)
        for key, reason in {**updated.refused, **made.refused}.items():
            _report(tally, of, by_key[key], "refused", reason)
        tally.counts["pushed_updated"] += len(updated.taken)
        tally.counts["pushed_created"] += len(made.taken)
        taken = _taken(by_key, updated, made)
        linked = await self._link(of, {id_: each for id_, (each, _) in taken.items()}, due)
        refs = []
        for record_id, (external_id, modified_ms) in taken.items():
            outgoing = by_key.get(external_id) or by_key[str(record_id)]
            done = {n for n in outgoing.values if n in of.fields and n not in unsaid[record_id]}
            left = outgoing.values.keys() - done - linked[record_id] - unsaid[record_id].keys()
            known = {n: v for n, v in outgoing.values.items() if n in done | linked[record_id]}
            version = 0 if left else outgoing.version
            base = {**outgoing.base, **known}
            refs.append(Ref(external_id, record_id, base, version, modified_ms))
            for name, value in unsaid[record_id].items():
                _report(tally, of, outgoing, "unmapped", f"HubSpot has no {name} {value!r}")
        return Pushed(tally, refs)

    async def _link(
        self, of: ObjectMap, taken: Mapping[UUID, str], due: Sequence[Outgoing]
    ) -> dict[UUID, set[str]]:
        """Write links and return which fields are settled, by record; one whose other end HubSpot lacks is not."""
        settled: dict[UUID, set[str]] = {id_: set() for id_ in taken}
        for name, link in of.links.items():
            wanted = [each for each in due if name in each.values and each.record_id in taken]
            ends = await self._ends(link, wanted)
            new, old = [], []
            for each in wanted:
                after, before = each.values[name], each.base.get(name)
                if after is None and before is not None:
                    old += (
                        [(taken[each.record_id], ends[str(before)])] if str(before) in ends else []
                    )
                elif after is not None and str(after) in ends:
                    new.append((taken[each.record_id], ends[str(after)]))
                elif after is not None:
                    continue
                settled[each.record_id].add(name)
            await self.hubspot.unlink(of, link, old)
            await self.hubspot.link(of, link, new)
        return settled

    async def _ends(self, link: LinkMap, wanted: Sequence[Outgoing]) -> dict[str, str]:
        """Return HubSpot's ids of the records at the other ends, by ours."""
        ids = {
            v for each in wanted for v in (each.values[link.ours], each.base.get(link.ours)) if v
        }
        if not ids:
            return {}
        async with self.store.changing(self.caller, keep=False) as changes:
            refs = await changes.refs_of(link.to, [UUID(str(each)) for each in ids])
        return {str(id_): ref.external_id for id_, ref in refs.items() if ref.state == "live"}


async def lose(
    changes: SyncTransaction, name: Synced, missing: Sequence[str], *, delete: bool
) -> Tally:
    """Report records that HubSpot does not have any more; ours stay unless `delete` says otherwise."""
    tally = Tally()
    lost = await changes.lose(name, missing, "gone_there")
    crm = OBJECTS[name]
    ids = [str(ref.record_id) for ref in lost]
    live = await changes.load(crm, crm.fields["id"], ids) if delete else {}
    if live:
        await changes.delete(crm, [each.id for each in live.values()])
    for ref in lost:
        here = " and here" if str(ref.record_id) in live else "; it is still here"
        message = f"deleted at HubSpot{here}"
        tally.report(Issue(name, "deleted_there", message, ref.external_id, ref.record_id))
    await changes.save_issues(tally)
    return tally


async def _unknown(
    changes: SyncTransaction, of: ObjectMap, fresh: Sequence[UUID]
) -> list[Outgoing]:
    """Return those of our records that HubSpot has never heard of."""
    known = await changes.refs_of(of.object, fresh)
    found = await _load(changes, of, [each for each in fresh if each not in known])
    return [
        Outgoing(id_, None, version, {n: v for n, v in values.items() if _is_told(of, n, v)}, {})
        for id_, (version, values) in found.items()
    ]


def _is_told(of: ObjectMap, name: str, value: Scalar) -> bool:
    return value is not None and not (name in of.fields and of.fields[name].incoming)


async def _load(
    changes: SyncTransaction, of: ObjectMap, ids: Sequence[UUID]
) -> dict[UUID, tuple[int, dict[str, Scalar]]]:
    """Return our live records, with their versions, by id."""
    crm = OBJECTS[of.object]
    stored = await changes.load(crm, crm.fields["id"], [str(each) for each in ids])
    return {each.id: (each.version, ours_of(of, each.values)) for each in stored.values()}


def _taken(
    by_key: Mapping[str, Outgoing], updated: Written, made: Written
) -> dict[UUID, tuple[str, int]]:
    """Return what HubSpot calls each record that it took and when it changed there, by our id."""
    taken = {
        by_key[key].record_id: (told.external_id, told.remote.modified_ms)
        for key, told in {**updated.taken, **made.taken}.items()
    }
    refused = {**updated.refused, **made.refused}
    for key, each in by_key.items():  # whose links alone changed
        if each.external_id and key not in refused and each.record_id not in taken:
            taken[each.record_id] = (each.external_id, 0)
    return taken


def _report(tally: Tally, of: ObjectMap, each: Outgoing, kind: IssueKind, message: str) -> None:
    tally.report(Issue(of.object, kind, message, each.external_id, each.record_id))
