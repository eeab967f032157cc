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
        gone = [c.external_id for c in batch if c.external_id and c.is_deleted]
        buried = await self._bury(of, gone) if gone else Tally()
        known = [c.external_id for c in batch if c.external_id and not c.is_deleted]
        fresh = [each.record_id for each in batch if each.external_id is None]
        remotes = await self.hubspot.read(of, known)
        tally = await self._meet(of, remotes, await self._twins(of, fresh))
        missing = sorted(set(known) - {each.id for each in remotes})
        async with self.store.changing(self.caller) as changes:
            lost = await lose(changes, of.object, missing, delete=self.apply_deletes)
            made = await _unknown(changes, of, fresh)
        tally.counts.update(lost.counts + buried.counts)
        return await self._tell(of, [*tally.outgoing, *made], tally)

    async def _bury(self, of: ObjectMap, gone: Sequence[str]) -> Tally:
        """Report records that were deleted here, and delete them there only if that was asked for."""
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
        return tally

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
        words = {each.record_id: write(of, each.values) for each in due}
        by_key = {each.external_id or str(each.record_id): each for each in due}
        written = await self._write(of, by_key, {id_: said for id_, (said, _) in words.items()})
        for key, reason in written.refused.items():
            _report(tally, of, by_key[key], "refused", reason)
        created = sum(by_key[key].external_id is None for key in written.taken)
        tally.counts["pushed_created"] += created
        tally.counts["pushed_updated"] += len(written.taken) - created
        taken = _taken(by_key, written)
        linked = await self._link(of, {id_: each for id_, (each, _) in taken.items()}, due)
        refs = []
        for each in due:
            if each.record_id in taken:
                unsaid = words[each.record_id][1]
                said = {n for n in each.values if n in of.fields} - unsaid.keys()
                settled = said | linked[each.record_id]
                refs.append(_ref(each, taken[each.record_id], settled, unsaid))
                for name, value in unsaid.items():
                    _report(tally, of, each, "unmapped", f"HubSpot has no {name} {value!r}")
        return Pushed(tally, refs)

    async def _write(
        self,
        of: ObjectMap,
        by_key: Mapping[str, Outgoing],
        said: Mapping[UUID, Mapping[str, str]],
    ) -> Written:
        """Write properties of records that HubSpot has, and make those that it has not."""
        batch = {key: Sent(key, said[each.record_id]) for key, each in by_key.items()}
        known = [s for key, s in batch.items() if by_key[key].external_id and s.properties]
        fresh = [s for key, s in batch.items() if not by_key[key].external_id]
        if fresh:
            await self.hubspot.ensure_record_id(of)
        written = await self.hubspot.update(of, known)
        made = await self.hubspot.upsert(of, fresh)
        return Written(written.taken | made.taken, written.refused | made.refused)

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
                here = taken[each.record_id]
                if after is not None and str(after) not in ends:
                    continue
                settled[each.record_id].add(name)
                if after is not None:
                    new.append((here, ends[str(after)]))
                elif str(before) in ends:
                    old.append((here, ends[str(before)]))
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


def _taken(by_key: Mapping[str, Outgoing], written: Written) -> dict[UUID, tuple[str, int]]:
    """Return what HubSpot calls each record that it took and when it changed there, by our id."""
    taken = {
        by_key[key].record_id: (told.external_id, told.remote.modified_ms)
        for key, told in written.taken.items()
    }
    for key, each in by_key.items():  # whose links alone changed
        if each.external_id and key not in written.refused and each.record_id not in taken:
            taken[each.record_id] = (each.external_id, 0)
    return taken


def _ref(
    each: Outgoing, taken: tuple[str, int], settled: set[str], unsaid: Mapping[str, Scalar]
) -> Ref:
    """Return what HubSpot knows now; what it could have been told and was not is left for the next run."""
    external_id, modified_ms = taken
    known = {n: v for n, v in each.values.items() if n in settled}
    version = 0 if each.values.keys() - settled - unsaid.keys() else each.version
    return Ref(external_id, each.record_id, {**each.base, **known}, version, modified_ms)


def _report(tally: Tally, of: ObjectMap, each: Outgoing, kind: IssueKind, message: str) -> None:
    tally.report(Issue(of.object, kind, message, each.external_id, each.record_id))
