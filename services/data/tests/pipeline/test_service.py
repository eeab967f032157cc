"""Moves by the rules of the stages, reports, and leads that become contacts."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any
from uuid import UUID, uuid4

import pytest

from fleet_common.errors import Conflict, InvalidInput, NotFound, PermissionDenied
from fleet_data.claims import Caller
from fleet_data.crm.service import Crm
from fleet_data.errors import VersionConflict
from fleet_data.history.service import History, undo_call
from fleet_data.pipeline.models import Conversion, Move, Report
from fleet_data.pipeline.repository import COLUMNS, PipelineRepository
from fleet_data.pipeline.service import Pipeline
from fleet_data.pool import Database

ONCE: dict[str, Any] = {"key": None, "dry_run": False}


async def made(crm: Crm, caller: Caller, name: Any, *records: dict[str, Any]) -> list[UUID]:
    """Create records and return their ids."""
    result = await crm.upsert(caller, name, records)
    return [UUID(row.id) for row in result.rows]


async def values(crm: Crm, caller: Caller, name: Any, id_: str | UUID | None) -> dict[str, Any]:
    found = await crm.get(caller, name, [UUID(str(id_))])
    return dict(zip(found.page.columns, found.page.rows[0], strict=True))


async def column(crm: Crm, caller: Caller, name: Any, field: str) -> list[Any]:
    return [row[0] for row in (await crm.search(caller, name, fields=[field])).rows]


async def test_a_deal_moves_by_the_rules_and_back_again(
    crm: Crm, pipeline: Pipeline, history: History, demo: Caller, other: Caller
) -> None:
    [deal] = await made(crm, demo, "deal", {"name": "Engine", "amount": 10})
    told = await pipeline.move(demo, Move(deal, "won"), key=None, dry_run=True)
    assert (told.before, told.status, told.change_set_id) == ("new", "won", None)
    assert (await values(crm, demo, "deal", deal))["stage"] == "new"
    won = await pipeline.move(demo, Move(deal, "won", if_version=1), key="key-0001", dry_run=False)
    assert replace(won, change_set_id=None, dry_run=True) == told
    assert (
        await pipeline.move(demo, Move(deal, "won", if_version=1), key="key-0001", dry_run=False)
        == won
    )
    same = await pipeline.move(demo, Move(deal, "won"), **ONCE)
    assert same.change_set_id is None
    for caller, wrong, error, says in (
        (demo, Move(deal, "new"), InvalidInput, "why a deal that was won moves"),
        (demo, Move(deal, "lost"), InvalidInput, "why the deal was lost"),
        (demo, Move(deal, "sold"), InvalidInput, "no stage 'sold'"),
        (demo, Move(deal, "new", "why", 1), VersionConflict, "version 2, not 1"),
        (demo, Move(uuid4(), "new"), NotFound, "deal"),
        (other, Move(deal, "new", "mine"), NotFound, "deal"),
    ):
        with pytest.raises(error, match=says):
            await pipeline.move(caller, wrong, **ONCE)
    lost = await pipeline.move(demo, Move(deal, "lost", "Too dear"), **ONCE)
    assert await column(crm, demo, "note", "body") == ["Moved from won to lost: Too dear"]
    assert (await values(crm, demo, "deal", deal))["status"] == "lost"
    set_id = UUID(str(lost.change_set_id))
    await history.undo(undo_call(demo, set_id, None, dry_run=False), set_id)
    assert (await values(crm, demo, "deal", deal))["status"] == "won"
    assert await column(crm, demo, "note", "body") == []


async def test_a_lead_becomes_a_contact_a_company_and_a_deal_at_once_or_not_at_all(
    crm: Crm, pipeline: Pipeline, history: History, demo: Caller, other: Caller
) -> None:
    [lead] = await made(
        crm,
        demo,
        "lead",
        {
            "name": "Ada King Lovelace",
            "email": "ada@engine.example",
            "company_name": "Engine Ltd",
            "title": "CTO",
        },
    )
    [note] = await made(crm, demo, "note", {"body": "Likes cogs", "lead_id": str(lead)})
    told = await pipeline.convert(demo, Conversion(lead, amount=5), key=None, dry_run=True)
    assert (told.contact_id, told.company_id, told.change_set_id) == ("", None, None)
    assert await column(crm, demo, "contact", "id") == []
    done = await pipeline.convert(demo, Conversion(lead, amount=5), key="key-0001", dry_run=False)
    assert done.created == told.created == {"company": True, "contact": True, "deal": True}
    contact = await values(crm, demo, "contact", done.contact_id)
    expected = {
        "first_name": "Ada King",
        "last_name": "Lovelace",
        "title": "CTO",
        "lifecycle": "qualified",
        "company_id": done.company_id,
    }
    assert {name: contact[name] for name in expected} == expected
    assert (await values(crm, demo, "company", done.company_id))["domain"] == "engine.example"
    deal = await values(crm, demo, "deal", done.deal_id)
    assert (deal["name"], deal["amount"], deal["contact_id"]) == ("Engine Ltd", 5, done.contact_id)
    assert (await values(crm, demo, "note", note))["contact_id"] == done.contact_id
    converted = await values(crm, demo, "lead", lead)
    assert (converted["status"], converted["contact_id"]) == ("converted", done.contact_id)
    assert asdict(
        await pipeline.convert(demo, Conversion(lead, amount=5), key="key-0001", dry_run=False)
    ) == asdict(done)
    with pytest.raises(Conflict, match="converted to the contact"):
        await pipeline.convert(demo, Conversion(lead), **ONCE)
    with pytest.raises(NotFound):
        await pipeline.convert(other, Conversion(lead), **ONCE)
    set_id = UUID(str(done.change_set_id))
    await history.undo(undo_call(demo, set_id, None, dry_run=False), set_id)
    assert await column(crm, demo, "contact", "id") == []
    assert (await values(crm, demo, "lead", lead))["status"] == "new"


async def test_what_is_there_is_used_and_free_mail_is_no_company(
    crm: Crm, pipeline: Pipeline, demo: Caller
) -> None:
    [contact] = await made(crm, demo, "contact", {"last_name": "X", "email": "x@gmail.com"})
    [company] = await made(crm, demo, "company", {"name": "Acme", "domain": "acme.example"})
    leads = await made(
        crm,
        demo,
        "lead",
        {"name": "X", "email": "x@gmail.com"},
        {"name": "Y", "email": "y@acme.example", "company_name": "ACME Corp"},
    )
    first = await pipeline.convert(demo, Conversion(leads[0], deal=False), **ONCE)
    assert (first.contact_id, first.company_id, first.deal_id) == (str(contact), None, None)
    assert first.created == {}
    second = await pipeline.convert(demo, Conversion(leads[1], deal=False), **ONCE)
    assert (second.company_id, second.created) == (str(company), {"contact": True})


async def test_reports_add_up_whatever_they_are_grouped_by(
    seeded: Database, demo: Caller, other: Caller
) -> None:
    pipeline = Pipeline(PipelineRepository(seeded))
    at = COLUMNS.index
    totals = set()
    groups: tuple[Any, ...] = ("stage", "owner", "month", "company")
    for group in groups:
        rows = await pipeline.report(demo, Report("sales", group), limit=1000)
        assert all(row[at("deals")] == sum(row[at("open") : at("lost") + 1]) for row in rows)
        totals.add(
            (
                sum(row[at("deals")] for row in rows),
                round(sum(row[at("amount_open")] or 0 for row in rows), 2),
            )
        )
        assert await pipeline.report(other, Report("sales", group), limit=9) == []
    assert len(totals) == 1
    stages = await pipeline.report(demo, Report("sales", "stage"), limit=99)
    assert stages[0][0] == "New"
    with pytest.raises(PermissionDenied):
        await pipeline.report(
            replace(demo, masks=frozenset({"amount"})), Report("sales", "stage"), limit=9
        )
