"""Where both sides meet: records of HubSpot's are matched, merged and written here, in the caller's transaction.

A record is known by its ref, else by our id that HubSpot holds (we made it, and died before we noted that), else by its
key: the mail address of a contact, the domain of a company. Writing goes through crm_upsert's own rules, so the change
log, undo, custom properties and caches follow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any
from uuid import UUID

from fleet_data.connectors.hubspot.mapping import ObjectMap, new_record_of, ours_of, record_of
from fleet_data.connectors.hubspot.merging import Merged, merge
from fleet_data.connectors.hubspot.models import Issue, Outgoing, Ref, Remote, Tally, Winner
from fleet_data.connectors.hubspot.repository import SyncTransaction
from fleet_data.crm.models import RowOutcome, Scalar, Stored
from fleet_data.crm.objects import OBJECTS
from fleet_data.crm.upsert import Upsert, upsert


@dataclass(frozen=True, slots=True)
class _Meeting:
    """One record of HubSpot's beside ours; None where there is none yet."""

    remote: Remote
    ref: Ref | None
    stored: Stored | None
    merged: Merged
    record: Mapping[str, Any]


async def apply(
    changes: SyncTransaction, of: ObjectMap, remotes: Sequence[Remote], *, winner: Winner
) -> Tally:
    """Bring what HubSpot has here, and return what is left to tell it."""
    tally = Tally()
    if not remotes:
        return tally
    await changes.lock(of.object)
    meetings = await _met(changes, of, remotes, winner, tally)
    due = [each for each in meetings if each.record]
    outcomes = await _written(changes, of, due)
    refs = []
    for each in meetings:
        outcome = outcomes.get(each.remote.id)
        if outcome is not None and outcome.outcome == "error":
            message = str(outcome.detail)
            tally.report(_issue(of, each, "refused", message))
            continue
        refs.append(_settled(of, each, outcome, winner, tally))
    await changes.save_refs(of.object, refs)
    return tally


async def _met(
    changes: SyncTransaction, of: ObjectMap, remotes: Sequence[Remote], winner: Winner, tally: Tally
) -> list[_Meeting]:
    """Return the records of HubSpot's that can be merged, each with ours; the others are reported."""
    refs = await changes.refs(of.object, [each.id for each in remotes])
    fresh = [each for each in remotes if not _is_stale(each, refs.get(each.id))]
    tally.counts["unchanged"] += len(remotes) - len(fresh)
    stored = await _stored(changes, of, fresh, refs)
    taken = {ref.record_id for ref in refs.values()}
    taken |= set(await changes.refs_of(of.object, [each.id for each in stored.values()]))
    ends = await _ends(changes, of, fresh)
    meetings, gone = [], []
    for remote in fresh:
        ref, ours = refs.get(remote.id), stored.get(remote.id)
        if ref is None and ours is not None and ours.id in taken:
            message = "another record of HubSpot's is this record already"
            tally.report(Issue(of.object, "duplicate", message, remote.id, ours.id))
        elif ref is not None and ours is None:
            if remote.modified_ms > ref.modified_ms:
                message = "changed at HubSpot after it was deleted here"
                tally.report(Issue(of.object, "deleted_here", message, remote.id, ref.record_id))
                gone.append(replace(ref, modified_ms=remote.modified_ms, state="gone_here"))
        else:
            taken |= {ours.id} if ours is not None else set()
            meetings.append(_meeting(of, _resolved(of, remote, ref, ours, ends), ref, ours, winner))
    await changes.save_refs(of.object, gone)
    return meetings


def _is_stale(remote: Remote, ref: Ref | None) -> bool:
    """Return whether somebody else has brought a newer state of it meanwhile."""
    return ref is not None and remote.modified_ms < ref.modified_ms


async def _stored(
    changes: SyncTransaction, of: ObjectMap, remotes: Sequence[Remote], refs: Mapping[str, Ref]
) -> dict[str, Stored]:
    """Return our records by HubSpot's ids, and lock them."""
    crm = OBJECTS[of.object]
    wanted = {each.id: _known_id(each, refs) for each in remotes}
    ids = [str(id_) for id_ in wanted.values() if id_ is not None]
    by_id = await changes.load(crm, crm.fields["id"], ids)
    found = {id_: by_id[str(ours)] for id_, ours in wanted.items() if str(ours) in by_id}
    if of.key is not None:
        lost = {each.id: each.values.get(of.key) for each in remotes
                if each.id not in found and each.id not in refs}  # fmt: skip
        keys = [str(key) for key in lost.values() if key is not None]
        by_key = await changes.load(crm, crm.fields[of.key], keys)
        found |= {id_: by_key[str(key)] for id_, key in lost.items() if str(key) in by_key}
    return found


def _known_id(remote: Remote, refs: Mapping[str, Ref]) -> UUID | None:
    return refs[remote.id].record_id if remote.id in refs else remote.record_id


async def _ends(
    changes: SyncTransaction, of: ObjectMap, remotes: Sequence[Remote]
) -> dict[str, dict[str, str]]:
    """Return our ids of what the records are linked to, by field and HubSpot's id."""
    ends = {}
    for name, link in of.links.items():
        others = {id_ for each in remotes for id_ in each.links.get(name, ())}
        known = await changes.refs(link.to, sorted(others))
        ends[name] = {id_: str(ref.record_id) for id_, ref in known.items()}
    return ends


def _resolved(
    of: ObjectMap,
    remote: Remote,
    ref: Ref | None,
    ours: Stored | None,
    ends: Mapping[str, Mapping[str, str]],
) -> Remote:
    """Return the record with its links as values; one to something that is not here is not understood."""
    values, unread = dict(remote.values), dict(remote.unread)
    for name, link in of.links.items():
        there = remote.links.get(name, ())
        known = [ends[name][id_] for id_ in there if id_ in ends[name]]
        before = ref.base.get(name) if ref else (ours.values.get(name) if ours else None)
        if not there:
            values[name] = None
        elif not link.is_primary and before in known:
            values[name] = before  # one of several, and none of them counts more
        elif link.is_primary and there[0] not in ends[name]:
            unread[name] = there[0]
        elif known:
            values[name] = known[0]
        else:
            unread[name] = there[0]
    return replace(remote, values=values, unread=unread)


def _meeting(
    of: ObjectMap, remote: Remote, ref: Ref | None, stored: Stored | None, winner: Winner
) -> _Meeting:
    if stored is None:
        record = new_record_of(of, {n: v for n, v in remote.values.items() if v is not None})
        return _Meeting(remote, ref, None, Merged({}, {}, {}, {}), record)
    ours = ours_of(of, stored.values)
    base = None if ref is None else ref.base
    merged = merge(of.names, base, ours, remote.values, winner=winner)
    record = {"id": str(stored.id), **record_of(merged.incoming)} if merged.incoming else {}
    return _Meeting(remote, ref, stored, merged, record)


async def _written(
    changes: SyncTransaction, of: ObjectMap, due: Sequence[_Meeting]
) -> dict[str, RowOutcome]:
    if not due:
        return {}
    call = Upsert(
        OBJECTS[of.object], [each.record for each in due], "id", None, False, changes.change_set
    )
    done = await upsert(changes, call)
    return {due[row.index].remote.id: row for row in done.rows}


def _settled(
    of: ObjectMap, each: _Meeting, outcome: RowOutcome | None, winner: Winner, tally: Tally
) -> Ref:
    """Return what both sides have now; counts it, and notes what is left to tell HubSpot."""
    remote, merged = each.remote, each.merged
    tally.counts[_counted(outcome)] += 1
    is_news = each.ref is None or remote.modified_ms > each.ref.modified_ms
    for name, text in remote.unread.items() if is_news else ():
        message = f"HubSpot's {name} {text[:100]!r} is no value of ours"
        tally.report(_issue(of, each, "unmapped", message))
    if merged.clashes:
        message = f"{', '.join(merged.clashes)} changed on both sides"
        fields = {name: asdict(clash) for name, clash in merged.clashes.items()}
        tally.report(replace(_issue(of, each, "conflict", message), fields=fields, winner=winner))
    if each.stored is None:
        assert outcome is not None  # noqa: S101 - what is not here was made
        record_id, version = UUID(outcome.id), outcome.version or 1
        base: Mapping[str, Scalar] = _made(of, each)
    else:
        record_id, base = each.stored.id, merged.base
        version = each.stored.version if outcome is None else outcome.version or 0
    told = {n: v for n, v in merged.outgoing.items() if not _is_incoming(of, n)}
    if told:
        tally.outgoing.append(Outgoing(record_id, remote.id, version, told, base))
    return Ref(remote.id, record_id, base, 0 if told else version, remote.modified_ms)


def _made(of: ObjectMap, each: _Meeting) -> dict[str, Scalar]:
    """Return what a record that was just made agrees on: also what stands in for what HubSpot does not have."""
    defaults = {f.name: f.default for f in OBJECTS[of.object].fields.values()}
    if "stage" in of.fields:
        defaults["stage"] = f"{defaults['pipeline']}/{defaults['stage']}"
    record = dict(each.record)
    if "stage" in record:
        record["stage"] = f"{record['pipeline']}/{record['stage']}"
    return {n: record.get(n, defaults.get(n)) for n in of.names}


def _is_incoming(of: ObjectMap, name: str) -> bool:
    return name in of.fields and of.fields[name].incoming


def _counted(outcome: RowOutcome | None) -> str:
    return "unchanged" if outcome is None else f"pulled_{outcome.outcome}"


def _issue(of: ObjectMap, each: _Meeting, kind: Any, message: str) -> Issue:
    record = each.stored.id if each.stored else None
    return Issue(of.object, kind, message, external_id=each.remote.id, record_id=record)
