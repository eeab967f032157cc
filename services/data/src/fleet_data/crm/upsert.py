"""Writing many records in one transaction, each with its own outcome.

All records are checked, matched and compared first; then one MERGE writes them, under a savepoint. When it fails,
its records are halved until those that are to blame stand alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from fleet_common.errors import AlreadyExists, Conflict, FleetError, InvalidInput, NotFound
from fleet_data.crm.models import (
    Draft,
    ObjectDef,
    Outcome,
    RowOutcome,
    Scalar,
    Stored,
    Upserted,
    Write,
)
from fleet_data.crm.properties import check_definition, is_custom
from fleet_data.crm.transaction import Transaction
from fleet_data.crm.values import new_record, parse_draft
from fleet_data.errors import VersionConflict
from fleet_data.ids import uuid7

_ROW_ERRORS = (InvalidInput, NotFound, AlreadyExists, Conflict)


@dataclass(frozen=True, slots=True)
class Upsert:
    """One call of crm_upsert."""

    of: ObjectDef
    records: Sequence[Mapping[str, Any]]
    match_on: str
    if_version: int | None
    dry_run: bool
    change_set: UUID
    masks: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Change:
    """A record that will be written, and what that changes: field → [before, after]."""

    write: Write
    outcome: Outcome
    diff: Mapping[str, Sequence[Scalar]]


async def upsert(changes: Transaction, call: Upsert) -> Upserted:
    """Write the records of `call` and return what became of each, in their order."""
    call = replace(call, of=await _with_properties(changes, call))
    outcomes: dict[int, RowOutcome] = {}
    drafts = _drafts(call, outcomes)
    found = await _matches(changes, call.of, drafts)
    planned = _plan(call.of, drafts, found, outcomes)
    await _write(changes, call, planned, outcomes)
    rows = [outcomes[index] for index in range(len(call.records))]
    counts = Counter(row.outcome for row in rows)
    changed = counts["created"] + counts["updated"] > 0
    return Upserted(
        rows=rows,
        change_set_id=str(call.change_set) if changed and not call.dry_run else None,
        dry_run=call.dry_run,
        counts={str(outcome): count for outcome, count in counts.items()},
    )


def restored(answer: Mapping[str, Any], *, dry_run: bool = False) -> Upserted:
    """Return an answer as it was recorded by `Upserted.to_json`."""
    return Upserted(
        rows=[RowOutcome(*row) for row in answer["rows"]],
        change_set_id=answer["change_set_id"],
        counts=answer["counts"],
        dry_run=dry_run,
    )


async def _with_properties(changes: Transaction, call: Upsert) -> ObjectDef:
    """Return the object with the tenant's own fields, when a record names one."""
    if not any(map(is_custom, call.records)):
        return call.of
    own = await changes.properties(call.of.name)
    return call.of.extended([d.field for d in own]).masking(call.masks)


def _drafts(call: Upsert, outcomes: dict[int, RowOutcome]) -> list[Draft]:
    """Return the records that can be used; the others get their outcome here."""
    drafts, seen = [], set()
    for index, record in enumerate(call.records):
        try:
            draft = parse_draft(
                call.of, index, record, match_on=call.match_on, if_version=call.if_version
            )
            if draft.match is not None and draft.match in seen:
                raise InvalidInput(f"an earlier record of this call has the same {draft.match[0]}")
        except _ROW_ERRORS as exc:
            outcomes[index] = _failed(index, exc)
            continue
        seen.add(draft.match)
        drafts.append(draft)
    return drafts


async def _matches(
    changes: Transaction, of: ObjectDef, drafts: Sequence[Draft]
) -> dict[tuple[str, str], Stored]:
    """Return the existing records by (field, value)."""
    found: dict[tuple[str, str], Stored] = {}
    for name in sorted({draft.match[0] for draft in drafts if draft.match}):
        values = [draft.match[1] for draft in drafts if draft.match and draft.match[0] == name]
        stored = await changes.load(of, of.fields[name], values)
        found.update({(name, value): record for value, record in stored.items()})
    return found


def _plan(
    of: ObjectDef,
    drafts: Sequence[Draft],
    found: Mapping[tuple[str, str], Stored],
    outcomes: dict[int, RowOutcome],
) -> list[_Change]:
    """Return what is to be written; records that stay as they are get their outcome here."""
    planned = []
    for draft in drafts:
        stored = found.get(draft.match) if draft.match else None
        try:
            change = _created(of, draft) if stored is None else _updated(of, draft, stored)
        except _ROW_ERRORS as exc:
            outcomes[draft.index] = _failed(draft.index, exc, stored)
            continue
        if change.diff:
            planned.append(change)
        else:
            assert stored is not None  # noqa: S101 - a new record always differs from nothing
            outcomes[draft.index] = RowOutcome(
                draft.index, "unchanged", str(stored.id), stored.version
            )
    return planned


def _created(of: ObjectDef, draft: Draft) -> _Change:
    if draft.match is not None and draft.match[0] == "id":
        raise NotFound(of.name, draft.match[1])
    values = new_record(of, draft.values)
    if of.name == "property":
        check_definition(values)
    diff = {name: [None, value] for name, value in values.items() if value is not None}
    return _Change(Write(draft.index, uuid7(), values), "created", diff)


def _updated(of: ObjectDef, draft: Draft, stored: Stored) -> _Change:
    if draft.version is not None and draft.version != stored.version:
        raise VersionConflict(expected=draft.version, found=stored.version)
    diff = {
        name: [stored.values.get(name), value]
        for name, value in draft.values.items()
        if stored.values.get(name) != value
    }
    if fixed := [name for name in diff if of.fields[name].fixed]:
        raise InvalidInput(f"{', '.join(fixed)} of a {of.name} cannot change")
    merged = {**stored.values, **draft.values}
    if of.name == "property":
        check_definition(merged)
    return _Change(Write(draft.index, stored.id, merged), "updated", diff)


async def _write(
    changes: Transaction,
    call: Upsert,
    due: Sequence[_Change],
    outcomes: dict[int, RowOutcome],
) -> None:
    """Write all of `due` at once; when that fails and there is more than one, each half by itself."""
    if not due:
        return
    try:
        async with changes.attempt():
            versions = await changes.write(call.of, [change.write for change in due])
    except _ROW_ERRORS as exc:
        if len(due) == 1:
            outcomes[due[0].write.index] = _failed(due[0].write.index, exc)
            return
        # Halving finds one bad record among 500 in nine steps instead of 500 statements.
        middle = len(due) // 2
        await _write(changes, call, due[:middle], outcomes)
        await _write(changes, call, due[middle:], outcomes)
        return
    for change in due:
        outcomes[change.write.index] = _done(call, change, versions[change.write.id])


def _done(call: Upsert, change: _Change, version: int) -> RowOutcome:
    index, id_ = change.write.index, str(change.write.id)
    if not call.dry_run:
        return RowOutcome(index, change.outcome, id_, version)
    # The id of a record that is not kept would lead nowhere.
    shown = None if change.outcome == "created" else id_
    return RowOutcome(index, change.outcome, shown, None, dict(change.diff))


def _failed(index: int, error: FleetError, stored: Stored | None = None) -> RowOutcome:
    if stored is None:
        return RowOutcome(index, "error", detail=str(error))
    return RowOutcome(index, "error", str(stored.id), stored.version, str(error))
