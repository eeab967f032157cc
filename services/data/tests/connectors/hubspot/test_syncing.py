"""Both sides of a sync, on a real database and the emulated HubSpot."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from fleet_common.errors import FleetError, RateLimited
from fleet_data.claims import Caller
from fleet_data.connectors.hubspot.mapping import OBJECT_MAPS
from fleet_data.connectors.hubspot.syncing import Syncer
from fleet_data.crm.changing import Change
from fleet_data.crm.deletion import Deletion
from fleet_data.crm.service import Crm
from fleet_data.history.service import History
from fleet_data.jobs.models import Lease

Rows = Callable[[str], Awaitable[list[dict[str, Any]]]]
QUIET = {"unchanged"}


async def put(crm: Crm, caller: Caller, kind: str, /, **values: Any) -> str:
    """Make or change one record and return its id."""
    (row,) = (await crm.upsert(caller, kind, [values])).rows
    assert row.outcome in {"created", "updated"}, row.detail
    return str(row.id)


async def remote_of(portal: Any, kind: str, **values: str) -> dict[str, Any]:
    """Return the only record that has these values."""
    records = await portal.records(kind)
    (found,) = [r for r in records.values() if values.items() <= r.items()]
    return dict(found)


async def test_what_each_side_has_comes_to_the_other_with_its_links(
    desk: Any, portal: Any, crm: Crm, demo: Caller, rows: Rows
) -> None:
    company = {
        "name": "Acme",
        "domain": "acme.com",
        "numberofemployees": "12",
        "website": "acme.com",
    }
    await portal.fill("companies", [company])
    _, nobody = await portal.fill(
        "contacts",
        [
            {"email": "ada@acme.com", "lastname": "Lovelace", "lifecyclestage": "opportunity"},
            {"email": "only@mail.com"},
        ],
    )
    beta = await put(crm, demo, "company", name="Beta", domain="beta.com", industry="Optics")
    boole = await put(crm, demo, "contact", last_name="Boole", email="b@beta.com", company_id=beta)
    await put(
        crm,
        demo,
        "deal",
        name="Big",
        amount=10,
        stage="proposal",
        company_id=beta,
        contact_id=boole,
    )
    run = await desk.run()
    assert (run.state, run.counts["pulled_created"], run.counts["pushed_created"]) == ("done", 3, 3)
    state = await portal.state()
    contacts = state["records"]["contacts"]
    assert {r["email"] for r in contacts.values()} == {
        "ada@acme.com",
        "only@mail.com",
        "b@beta.com",
    }
    assert len(state["links"]) == 6  # each from both ends
    deal = await remote_of(portal, "deals", dealname="Big")
    assert (deal["dealstage"], deal["pipeline"], deal["amount"]) == (
        "presentationscheduled",
        "default",
        "10",
    )
    assert await rows("SELECT last_name, lifecycle FROM store.contacts ORDER BY email") == [
        {"last_name": "Lovelace", "lifecycle": "qualified"},
        {"last_name": "Boole", "lifecycle": "lead"},
        {"last_name": "only", "lifecycle": "lead"},
    ]
    assert await rows("SELECT website, industry FROM store.companies ORDER BY name") == [
        {"website": "https://acme.com", "industry": None},
        {"website": None, "industry": "Optics"},
    ]
    assert "lastname" not in contacts[nobody]
    assert set((await desk.run()).counts) <= QUIET


async def test_both_sides_of_an_edit_meet_field_by_field_and_a_clash_is_reported(
    desk: Any, portal: Any, crm: Crm, history: History, rows: Rows
) -> None:
    demo = desk.caller
    await portal.fill("contacts", [{"email": "ada@x.com", "lastname": "L", "city": "Bern"}])
    await desk.run()
    (id_,) = [row["id"] for row in await rows("SELECT id FROM store.contacts")]
    (remote,) = await portal.records("contacts")

    await put(crm, demo, "contact", id=id_, title="Countess")
    await portal.update("contacts", {remote: {"phone": "+44 1"}})
    assert "conflicts" not in (await desk.run()).counts
    assert (await portal.records("contacts"))[remote]["jobtitle"] == "Countess"
    assert (await rows("SELECT phone FROM store.contacts")) == [{"phone": "+44 1"}]

    await put(crm, demo, "contact", id=id_, city="Basel")
    await portal.update("contacts", {remote: {"city": "Zug"}})
    assert (await desk.run()).counts["conflicts"] == 1
    (issue,) = await desk.issues()
    assert issue["fields"] == {"city": {"base": "Bern", "crm": "Basel", "hubspot": "Zug"}}
    assert (issue["kind"], issue["winner"], issue["record_id"]) == ("conflict", "hubspot", id_)
    assert (await rows("SELECT city FROM store.contacts")) == [{"city": "Zug"}]

    crm_wins = replace(desk, sync=replace(desk.sync, winner="crm"))
    await put(crm, demo, "contact", id=id_, city="Chur")
    await portal.update("contacts", {remote: {"city": "Uri"}})
    await crm_wins.run()
    assert (await portal.records("contacts"))[remote]["city"] == "Chur"
    assert [each["winner"] for each in await desk.issues()] == ["crm", "hubspot"]

    # What came from HubSpot is history like any other change, and undoing it is told there.
    await portal.update("contacts", {remote: {"phone": "+44 2"}})
    await desk.run(direction="pull")
    page = await history.of_record(demo, "contact", UUID(id_), limit=50)
    told = [dict(zip(page.columns, row, strict=True)) for row in page.rows]
    came = next(entry for entry in told if entry["actor"] == "hubspot")
    assert came["tool"] == "connector_sync"
    await history.undo(
        Change(demo, "crm_undo", [came["change_set_id"]]), UUID(came["change_set_id"])
    )
    assert (await desk.run(direction="push")).counts["pushed_updated"] == 1
    assert (await portal.records("contacts"))[remote]["phone"] == "+44 1"


async def test_records_of_both_sides_are_the_same_by_address_and_a_second_one_is_reported(
    desk: Any, portal: Any, crm: Crm, demo: Caller, rows: Rows
) -> None:
    await put(crm, demo, "contact", last_name="Here", email="a@x.com", city="Bern")
    await put(crm, demo, "company", name="Acme", domain="acme.com")
    await portal.fill("contacts", [{"email": "a@x.com", "lastname": "There", "phone": "1"}])
    await portal.fill(
        "companies",
        [{"name": "Acme", "domain": "acme.com"}, {"name": "Acme 2", "domain": "acme.com"}],
    )
    run = await desk.run()
    assert run.counts["pushed_updated"] == 1
    assert "pushed_created" not in run.counts
    assert await rows("SELECT last_name, city, phone FROM store.contacts") == [
        {"last_name": "There", "city": "Bern", "phone": "1"}
    ]
    assert len(await portal.records("contacts")) == 1
    assert {each["kind"] for each in await desk.issues()} == {"conflict", "duplicate"}
    assert len(await rows("SELECT id FROM store.companies")) == 1


async def test_a_record_that_one_side_refuses_is_named_and_the_others_go_on(
    desk: Any, portal: Any, crm: Crm, demo: Caller, rows: Rows
) -> None:
    await portal.fill("contacts", [{"email": "ok@x.com", "lastname": "Ok", "country": "C" * 301}])
    await portal.fill(
        "deals", [{"dealname": "Old", "dealstage": "closedwon", "pipeline": "legacy"}]
    )
    for name in ("one", "two", "three"):
        await put(crm, demo, "contact", last_name=name, email=f"{name}@x.com")
    await portal.set(faults={"batch.upsert": [400, 400]})  # the whole batch, then its first half
    run = await desk.run()
    assert (run.state, run.counts["pushed_created"]) == ("done", 2)
    issues = {each["kind"]: each for each in await desk.issues()}
    assert issues["refused"]["message"] == "HubSpot: fault"
    assert "country" in (await desk.issues())[-1]["message"]
    assert (await rows("SELECT country FROM store.contacts WHERE email = 'ok@x.com'"))[0][
        "country"
    ] is None
    # The next run tells HubSpot what it refused, and leaves what nobody understands as it is on both sides.
    assert (await desk.run()).counts["pushed_created"] == 1
    deal = await remote_of(portal, "deals", dealname="Old")
    assert (deal["pipeline"], deal["dealstage"]) == ("legacy", "closedwon")


async def test_deletions_are_reported_and_applied_only_when_asked_for(
    desk: Any, portal: Any, crm: Crm, demo: Caller, rows: Rows
) -> None:
    await portal.fill("contacts", [{"email": f"p{n}@x.com", "lastname": "P"} for n in range(4)])
    await desk.run()
    ids = {r["email"]: r["id"] for r in await rows("SELECT id, email FROM store.contacts")}
    theirs = {r["email"]: id_ for id_, r in (await portal.records("contacts")).items()}
    live = "SELECT email FROM store.contacts WHERE deleted_at IS NULL ORDER BY email"

    async def lose(here: str, there: str) -> None:
        await crm.delete(Deletion(demo, "contact", [UUID(ids[here])]))
        gone = {"inputs": [{"id": theirs[there]}]}
        await portal.http.post("/crm/v3/objects/contacts/batch/archive", json=gone)

    await lose("p0@x.com", "p1@x.com")
    await desk.run()
    assert len(await rows(live)) == 3
    kept = [r["email"] for r in (await portal.records("contacts")).values() if not r["archived"]]
    assert len(kept) == 3
    reported = await desk.issues()
    assert {each["kind"] for each in reported} == {"deleted_here", "deleted_there"}
    await portal.update("contacts", {theirs["p0@x.com"]: {"city": "Bern"}})
    again = await desk.run(direction="pull")
    assert again.counts["issues"] == 1  # changed there, and not made anew here
    assert set((await desk.run(direction="pull")).counts) <= QUIET

    await lose("p2@x.com", "p3@x.com")
    await desk.run(apply_deletes=True)
    assert [r["email"] for r in await rows(live)] == ["p1@x.com"]
    kept = [r["email"] for r in (await portal.records("contacts")).values() if not r["archived"]]
    assert sorted(kept) == ["p0@x.com"]


async def test_a_run_waits_as_long_as_hubspot_says_and_goes_on_where_it_was(
    desk: Any, portal: Any, rows: Rows
) -> None:
    people = [{"email": f"p{n}@x.com", "lastname": "P"} for n in range(150)]
    await portal.fill("contacts", people[:75], modified=1_700_000_000_000)
    await portal.fill("contacts", people[75:], modified=1_700_000_000_001)
    job = await desk.start(direction="pull")
    await portal.set(faults={"search": [None, None, "daily", "daily", "daily"]})
    with pytest.raises(RateLimited) as later:
        await Syncer(desk.sync)(job, Lease())
    assert later.value.retry_after_s == 900
    waiting = await desk.state(job)
    assert (waiting.state, waiting.counts["pulled_created"]) == ("queued", 100)
    assert waiting.error.startswith("rate_limited: HubSpot's limit is used up")
    await portal.set(faults={"search": [429, None, 503]})  # the transport asks again at once
    await Syncer(desk.sync)(job, Lease())
    done = await desk.state(job)
    assert (done.state, done.error, done.counts["pulled_created"]) == ("done", None, 150)
    calls = (await portal.state())["calls"]
    assert calls["search"] == 9
    assert len(await rows("SELECT id FROM store.contacts")) == 150


async def test_more_results_than_a_search_gives_and_many_of_one_moment_are_all_seen_once(
    desk: Any, portal: Any, rows: Rows
) -> None:
    await portal.set(most_found=100)
    person = iter(range(10_000))

    def people(count: int) -> list[dict[str, str]]:
        return [{"email": f"p{next(person)}@x.com", "lastname": "P"} for _ in range(count)]

    await portal.fill("contacts", people(90), modified=1_700_000_000_000)
    await portal.fill("contacts", people(130), modified=1_700_000_000_500)
    (late,) = await portal.fill("contacts", people(1), modified=1_700_000_000_600)
    await portal.set(hidden=[late], most_found=100)
    assert (await desk.run(direction="pull")).counts["pulled_created"] == 220
    # It is in the search only now, though it is older than the end of the last walk.
    await portal.set(most_found=100)
    assert (await desk.run(direction="pull")).counts["pulled_created"] == 1
    assert len(await rows("SELECT id FROM store.contacts")) == 221


async def test_two_tenants_with_one_account_keep_their_records_apart(
    desk: Any, portal: Any, crm: Crm, other: Caller, rows: Rows
) -> None:
    await put(crm, desk.caller, "contact", last_name="Secret", email="s@x.com")
    mine, theirs = desk, replace(desk, caller=other)
    await theirs.run()
    assert await portal.records("contacts") == {}
    await mine.run(direction="push")
    await put(crm, other, "contact", last_name="Other", email="o@x.com")
    await theirs.run(direction="push")
    assert await rows("SELECT last_name FROM store.contacts") == [{"last_name": "Secret"}]
    assert [
        r["external_id"] for r in await rows("SELECT external_id FROM store.external_refs")
    ] == ["101"]
    assert await theirs.issues() == []


async def test_custom_properties_cross_over_by_the_operators_table(
    make_desk: Callable[..., Any], portal: Any, crm: Crm, demo: Caller, rows: Rows
) -> None:
    await put(
        crm, demo, "property", object="contact", name="x_tier", kind="enum", choices="gold,tin"
    )
    desk = make_desk(demo, customs={"contact": {"x_tier": "customer_tier", "x_none": "city"}})
    await portal.fill("contacts", [{"email": "a@x.com", "lastname": "A", "customer_tier": "gold"}])
    await put(crm, demo, "contact", last_name="B", email="b@x.com", x_tier="tin")
    await desk.run()
    assert await rows("SELECT props ->> 'x_tier' AS tier FROM store.contacts ORDER BY email") == [
        {"tier": "gold"},
        {"tier": "tin"},
    ]
    assert (await remote_of(portal, "contacts", email="b@x.com"))["customer_tier"] == "tin"


async def test_whatever_people_do_one_sync_later_both_sides_are_the_same_and_stay_so(
    desk: Any, portal: Any, crm: Crm, demo: Caller, rows: Rows
) -> None:
    dice = random.Random(20)
    words = [None, "a", "b", "c"]
    people = [{"last_name": "H", "email": f"h{n}@x.com"} for n in range(6)]
    await crm.upsert(demo, "contact", people)
    await portal.fill("contacts", [{"email": f"t{n}@x.com", "lastname": "T"} for n in range(6)])
    await desk.run()
    ids = [r["id"] for r in await rows("SELECT id FROM store.contacts")]
    theirs = sorted(await portal.records("contacts"))
    fields = [OBJECT_MAPS["contact"].fields[n] for n in ("city", "country", "title", "phone")]
    for _ in range(2):
        edits = [
            {"id": id_, **{f.ours: dice.choice(words) for f in dice.sample(fields, 2)}}
            for id_ in dice.sample(ids, 9)
        ]
        await crm.upsert(demo, "contact", edits)
        changed = {
            id_: {f.theirs: dice.choice(words) or "" for f in dice.sample(fields, 2)}
            for id_ in dice.sample(theirs, 9)
        }
        await portal.update("contacts", changed)
        await desk.run()
    assert set((await desk.run()).counts) <= QUIET
    here = await rows("SELECT email, city, country, title AS jobtitle, phone FROM store.contacts")
    there = {r["email"]: r for r in (await portal.records("contacts")).values()}
    assert len(here) == len(there) == 12
    for record in here:
        assert record == {name: there[record["email"]].get(name) for name in record}
    assert any(each["kind"] == "conflict" for each in await desk.issues())


async def test_a_write_whose_answer_was_lost_is_done_once(
    desk: Any, portal: Any, crm: Crm, demo: Caller
) -> None:
    acme = await put(crm, demo, "company", name="Acme", domain="acme.com")
    people = [{"last_name": "P", "email": f"p{n}@x.com", "company_id": acme} for n in range(3)]
    await crm.upsert(demo, "contact", people)
    lost = ["drop_after"] * 3  # as often as the transport tries
    await portal.set(faults={"batch.upsert": [None, *lost], "associations.create": lost})
    job = await desk.start()
    for _ in range(2):
        with pytest.raises(FleetError):
            await Syncer(desk.sync)(job, Lease())
        assert (await desk.state(job)).state == "queued"
    await Syncer(desk.sync)(job, Lease())
    state = await portal.state()
    assert (len(state["records"]["contacts"]), len(state["records"]["companies"])) == (3, 1)
    assert len([link for link in state["links"] if link[0] == "contacts"]) == 3
    assert (await desk.state(job)).state == "done"
    assert set((await desk.run()).counts) <= QUIET
