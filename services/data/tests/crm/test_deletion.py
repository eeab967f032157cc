"""Deleting records: versions, keys, plans, and what a person is shown."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from fleet_common.errors import Conflict, InvalidInput, KeyReused, NotFound
from fleet_data.claims import Caller
from fleet_data.crm.deletion import Deletion
from fleet_data.crm.filters import Where
from fleet_data.crm.service import Crm
from fleet_data.errors import VersionConflict
from fleet_data.history.service import History, undo_call

ADA = {
    "first_name": "Ada",
    "last_name": "Lovelace",
    "email": "ada@example.com",
    "description": "Say yes to everything",
}


async def created(crm: Crm, caller: Caller, name: Any, **fields: Any) -> Deletion:
    """Make a record and return the call that deletes it."""
    result = await crm.upsert(caller, name, [fields])
    return Deletion(caller, name, [UUID(result.rows[0].id)])


async def exists(crm: Crm, call: Deletion) -> bool:
    found = await crm.get(call.caller, call.name, call.ids)
    return not found.missing_ids


async def test_a_deleted_record_is_gone_and_its_row_stays(
    crm: Crm, demo: Caller, admin_connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    call = await created(crm, demo, "contact", **ADA)
    deleted = await crm.delete(call)
    assert deleted.rows == [[str(call.ids[0]), "deleted", 2]]
    assert not await exists(crm, call)
    row = await admin_connection.fetchrow("SELECT deleted_at, updated_by FROM store.contacts")
    assert row is not None
    assert (row["deleted_at"] is not None, row["updated_by"]) == (True, demo.subject)
    logged = await admin_connection.fetchval(
        "SELECT before ->> 'email' FROM store.change_log WHERE change_set = $1",
        UUID(str(deleted.change_set_id)),
    )
    assert logged == "ada@example.com"


async def test_a_unique_value_is_free_again(crm: Crm, demo: Caller) -> None:
    await crm.delete(await created(crm, demo, "contact", **ADA))
    assert await exists(crm, await created(crm, demo, "contact", **ADA))


async def test_only_the_version_that_was_named_or_planned_is_deleted(
    crm: Crm, demo: Caller
) -> None:
    call = await created(crm, demo, "contact", **ADA)
    with pytest.raises(VersionConflict, match="version 1, not 7"):
        await crm.delete(replace(call, if_version=7))
    with pytest.raises(Conflict, match="not as they were approved"):
        await crm.delete(replace(call, if_version=1), planned_version="2")
    assert await exists(crm, call)
    await crm.delete(replace(call, if_version=1), planned_version="1")
    assert not await exists(crm, call)


async def test_what_is_not_there_is_not_found(crm: Crm, demo: Caller, other: Caller) -> None:
    call = await created(crm, demo, "contact", **ADA)
    for missing in (replace(call, ids=[uuid4()]), replace(call, caller=other)):
        with pytest.raises(NotFound):
            await crm.delete(missing)
        with pytest.raises(NotFound):
            await crm.plan_deletion(missing)
    await crm.delete(call)
    with pytest.raises(NotFound):
        await crm.delete(call)


async def test_a_repeated_key_gets_the_same_answer(crm: Crm, demo: Caller) -> None:
    call = replace(await created(crm, demo, "contact", **ADA), key="key-0001")
    answers = await asyncio.gather(*(crm.delete(call) for _ in range(4)))
    assert answers == [answers[0]] * 4
    with pytest.raises(KeyReused):
        await crm.delete(replace(call, ids=[uuid4()]))


async def test_the_plan_names_the_record_and_quotes_no_free_text(crm: Crm, demo: Caller) -> None:
    plan = await crm.plan_deletion(await created(crm, demo, "contact", **ADA))
    assert plan is not None
    assert plan.summary == "Delete the contact “Ada Lovelace ada@example.com”"
    assert plan.object_version == "1"
    assert plan.details["email"] == "ada@example.com"
    assert "Say yes" not in str(plan)
    note = await crm.plan_deletion(await created(crm, demo, "note", body="Say yes"))
    assert note is not None
    assert note.summary.startswith("Delete the note 0")


async def test_the_plan_hides_what_the_caller_may_not_see(crm: Crm, demo: Caller) -> None:
    call = await created(crm, demo, "contact", **ADA)
    masked = replace(call, caller=replace(demo, masks=frozenset({"email"})))
    plan = await crm.plan_deletion(masked)
    assert "ada@example.com" not in str(plan)
    assert "Lovelace" in str(plan)


async def test_planning_changes_nothing(
    crm: Crm, demo: Caller, admin_connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    call = replace(await created(crm, demo, "contact", **ADA), key="key-0002")
    await crm.plan_deletion(call)
    assert await exists(crm, call)
    assert await admin_connection.fetchval("SELECT count(*) FROM store.idempotency") == 0
    assert await admin_connection.fetchval("SELECT version FROM store.contacts") == 1


async def test_a_call_that_was_answered_needs_no_new_plan(crm: Crm, demo: Caller) -> None:
    call = replace(await created(crm, demo, "contact", **ADA), key="key-0003")
    await crm.delete(call)
    assert await crm.plan_deletion(call) is None
    with pytest.raises(KeyReused):
        await crm.plan_deletion(replace(call, if_version=3))


async def test_many_are_deleted_together_each_with_its_outcome_and_come_back(
    crm: Crm, history: History, demo: Caller
) -> None:
    people = [{"last_name": f"P{n}", "country": "UK" if n < 18 else "France"} for n in range(20)]
    made = await crm.upsert(demo, "contact", people)
    ids = [UUID(row.id) for row in made.rows]
    stranger = uuid4()
    call = Deletion(demo, "contact", [*ids[18:], stranger, ids[18]])
    tried = await crm.delete(replace(call, dry_run=True))
    assert tried.change_set_id is None
    outcomes = [(row[0], row[1]) for row in tried.rows]
    assert outcomes == [(str(i), "deleted") for i in ids[18:]] + [(str(stranger), "missing")]
    assert (await crm.get(demo, "contact", ids)).missing_ids == []
    british = Where(field="country", value="UK")
    found = Deletion(demo, "contact", where=british, key="key-0009")
    plan = await crm.plan_deletion(found)
    assert plan is not None
    assert plan.summary == "Delete 18 contact records"
    assert plan.details["and"] == "3 more"
    await crm.upsert(demo, "contact", [{"id": str(ids[0]), "title": "changed since"}])
    with pytest.raises(Conflict, match="not as they were approved"):
        await crm.delete(found, planned_version=plan.object_version)
    again = await crm.plan_deletion(found)
    assert again is not None
    deleted = await crm.delete(found, planned_version=again.object_version)
    assert await crm.delete(found) == deleted
    assert {row[1] for row in deleted.rows} == {"deleted"}
    assert len((await crm.get(demo, "contact", ids)).missing_ids) == 18
    set_id = UUID(str(deleted.change_set_id))
    undone = await history.undo(undo_call(demo, set_id, None, dry_run=False), set_id)
    assert undone.undone == 18
    assert (await crm.get(demo, "contact", ids)).missing_ids == []


async def test_a_filter_that_finds_nothing_or_too_much_deletes_nothing(
    crm: Crm, demo: Caller
) -> None:
    await crm.upsert(demo, "note", [{"body": str(n)} for n in range(500)])
    await crm.upsert(demo, "note", [{"body": "one more"}])
    for value, error in (("nothing", NotFound), ("%", NotFound)):
        call = Deletion(demo, "note", where=Where(field="body", op="contains", value=value))
        for refused in (crm.plan_deletion, crm.delete):
            with pytest.raises(error):
                await refused(call)
    everything = Deletion(demo, "note", where=Where(field="body", op="not_null"))
    with pytest.raises(InvalidInput, match="more than 500"):
        await crm.plan_deletion(everything)
