"""Links, duplicates and merges."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import TypeAdapter

from fleet_common.errors import InvalidInput, NotFound, PermissionDenied
from fleet_data.claims import Caller
from fleet_data.crm.filters import Filter
from fleet_data.crm.service import Crm
from fleet_data.history.service import History, undo_call
from fleet_data.pool import Database
from fleet_data.relations.models import Link, Merging
from fleet_data.relations.repository import RelationsRepository
from fleet_data.relations.service import Relations

FILTER: TypeAdapter[Filter] = TypeAdapter(Filter)


async def made(crm: Crm, caller: Caller, name: Any, *records: dict[str, Any]) -> list[UUID]:
    """Create records and return their ids."""
    result = await crm.upsert(caller, name, records)
    assert result.counts == {"created": len(records)}, result.rows
    return [UUID(row.id) for row in result.rows]


async def values(crm: Crm, caller: Caller, name: Any, id_: UUID) -> dict[str, Any]:
    found = await crm.get(caller, name, [id_])
    return dict(zip(found.page.columns, found.page.rows[0], strict=True))


async def links(crm: Crm, caller: Caller) -> set[tuple[str, str, str]]:
    page = await crm.search(caller, "link", fields=["from_id", "type", "to_id"])
    return {(row[0], row[1], row[2]) for row in page.rows}


async def test_a_link_is_made_once_found_and_removed(
    crm: Crm, relations: Relations, demo: Caller, other: Caller
) -> None:
    [ada] = await made(crm, demo, "contact", {"last_name": "Ada"})
    [deal] = await made(crm, demo, "deal", {"name": "Engine"})
    link = Link("contact", ada, "decision_maker", "deal", deal)
    how: dict[str, Any] = {"key": None, "dry_run": False}
    told = await relations.link(demo, link, remove=False, key=None, dry_run=True)
    assert (told.outcome, told.change_set_id, await links(crm, demo)) == ("created", None, set())
    outcomes = [(await relations.link(demo, link, remove=False, **how)).outcome for _ in "ab"]
    assert outcomes == ["created", "unchanged"]
    assert await links(crm, demo) == {(str(ada), "decision_maker", str(deal))}
    with pytest.raises(NotFound):
        await relations.link(other, link, remove=True, **how)
    outcomes = [(await relations.link(demo, link, remove=True, **how)).outcome for _ in "ab"]
    assert outcomes == ["removed", "unchanged"]
    assert await links(crm, demo) == set()
    for wrong in (replace(link, type="Decision Maker"), replace(link, to_id=ada)):
        with pytest.raises(InvalidInput):
            await relations.link(demo, wrong, remove=False, **how)
    with pytest.raises(NotFound):
        await relations.link(demo, replace(link, to_id=uuid4()), remove=False, **how)


async def test_a_merge_moves_everything_shows_its_choice_first_and_can_be_undone(
    crm: Crm, relations: Relations, history: History, demo: Caller
) -> None:
    await crm.upsert(demo, "property", [{"object": "contact", "name": "x_vat"}])
    winner, second, third = await made(
        crm,
        demo,
        "contact",
        {"last_name": "Lovelace", "title": "Countess"},
        {"last_name": "King", "email": "ada@example.com", "title": "Lady", "x_vat": "7"},
        {"last_name": "Byron", "phone": "1", "email": "byron@example.com", "description": "Long"},
    )
    [deal] = await made(crm, demo, "deal", {"name": "Engine", "contact_id": str(second)})
    [note] = await made(crm, demo, "note", {"body": "x", "contact_id": str(third)})
    for who, to in ((winner, deal), (second, deal), (third, deal), (second, winner)):
        link = Link("contact", who, "knows", "deal" if to == deal else "contact", to)
        await relations.link(demo, link, remove=False, key=None, dry_run=False)
    before = await links(crm, demo)
    merging = Merging("contact", winner, [second, third])
    told = await relations.merge(demo, merging, key=None, dry_run=True)
    assert told.fields == {
        "email": ["ada@example.com", str(second)],
        "x_vat": ["…", str(second)],
        "phone": ["1", str(third)],
        "description": ["…", str(third)],
    }
    assert await links(crm, demo) == before
    plan = await relations.plan_merge(demo, merging, None)
    assert plan is not None
    assert plan.summary == f"Merge 2 contact records into Lovelace {winner}".replace(
        "Lovelace", "“Lovelace”"
    )
    done = await relations.merge(demo, merging, key="key-0001", dry_run=False)
    assert (done.fields, done.moved) == (told.fields, told.moved)
    assert done.moved == {"deal.contact_id": 1, "note.contact_id": 1}
    merged = await values(crm, demo, "contact", winner)
    expected = {
        "last_name": "Lovelace",
        "title": "Countess",
        "email": "ada@example.com",
        "phone": "1",
        "x_vat": "7",
    }
    assert {name: merged[name] for name in expected} == expected
    assert (await values(crm, demo, "deal", deal))["contact_id"] == str(winner)
    assert (await values(crm, demo, "note", note))["contact_id"] == str(winner)
    assert await links(crm, demo) == {(str(winner), "knows", str(deal))}
    assert (await crm.get(demo, "contact", [second, third])).missing_ids == [
        str(second),
        str(third),
    ]
    assert await relations.merge(demo, merging, key="key-0001", dry_run=False) == done
    assert await relations.plan_merge(demo, merging, "key-0001") is None
    set_id = UUID(str(done.change_set_id))
    await history.undo(undo_call(demo, set_id, None, dry_run=False), set_id)
    assert await links(crm, demo) == before
    assert (await values(crm, demo, "contact", second))["email"] == "ada@example.com"
    assert (await values(crm, demo, "deal", deal))["contact_id"] == str(second)


async def test_a_merge_needs_records_of_the_caller_and_hides_what_is_masked(
    crm: Crm, relations: Relations, demo: Caller, other: Caller
) -> None:
    winner, loser = await made(
        crm, demo, "contact", {"last_name": "A"}, {"last_name": "B", "email": "b@example.com"}
    )
    merging = Merging("contact", winner, [loser])
    for caller, wrong, error in (
        (other, merging, NotFound),
        (demo, replace(merging, losers=[uuid4()]), NotFound),
        (demo, replace(merging, losers=[winner]), InvalidInput),
    ):
        with pytest.raises(error):
            await relations.merge(caller, wrong, key=None, dry_run=False)
    masked = replace(demo, masks=frozenset({"email"}))
    told = await relations.merge(masked, merging, key=None, dry_run=True)
    assert told.fields == {"email": ["***", str(loser)]}
    assert "b@example.com" not in str(await relations.plan_merge(masked, merging, None))


async def test_records_that_share_a_key_and_a_name_are_duplicates(
    crm: Crm, relations: Relations, demo: Caller, other: Caller
) -> None:
    people = [
        {"first_name": "Ada", "last_name": "Lovelace", "phone": "+49 30 1234567"},
        {"first_name": "Ada", "last_name": "Lovelase", "phone": "030/1234567"},
        {"first_name": "Grace", "last_name": "Hopper", "phone": "0301234567"},
        {"first_name": "Grace", "last_name": "Hopper", "email": "g@navy.example"},
        {"first_name": "G.", "last_name": "Hopper", "email": "hopper@navy.example"},
    ]
    ids = [str(id_) for id_ in await made(crm, demo, "contact", *people)]
    pairs = await relations.duplicates(demo, "contact", limit=10)
    found = {frozenset(each.ids): each.shared for each in pairs}
    assert found == {
        frozenset(ids[0:2]): ["phone"],
        frozenset(ids[3:5]): ["name and mail domain"],
    }
    assert len(await relations.duplicates(demo, "contact", limit=1)) == 1
    assert await relations.duplicates(other, "contact", limit=10) == []
    await made(
        crm, demo, "company", {"name": "Acme GmbH"}, {"name": "ACME  G.m.b.H."}, {"name": "Apex"}
    )
    [pair] = await relations.duplicates(demo, "company", limit=9)
    assert set(pair.labels) == {"Acme GmbH", "ACME  G.m.b.H."}
    # A key that is masked would tell who shares a value nobody may see.
    masked = replace(demo, masks=frozenset({"phone"}))
    [pair] = await relations.duplicates(masked, "contact", limit=9)
    assert set(pair.ids) == set(ids[3:5])
    with pytest.raises(PermissionDenied):
        await relations.duplicates(
            replace(demo, masks=frozenset({"last_name"})), "contact", limit=9
        )


async def test_every_object_can_be_searched_for_duplicates(seeded: Database, demo: Caller) -> None:
    relations = Relations(RelationsRepository(seeded))
    for name in ("contact", "company", "lead"):
        pairs = await relations.duplicates(demo, name, limit=20)
        assert name != "contact" or pairs
        assert all(each.likeness >= 0.3 for each in pairs)
