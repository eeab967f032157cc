"""Both sides of a sync, on a real database and the emulated HubSpot."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fleet_data.claims import Caller
from fleet_data.crm.service import Crm

Rows = Callable[[str], Awaitable[list[dict[str, Any]]]]


async def test_what_each_side_has_comes_to_the_other_with_its_links(
    desk: Any, portal: Any, crm: Crm, demo: Caller, rows: Rows
) -> None:
    (acme,) = await portal.fill(
        "companies", [{"name": "Acme", "domain": "acme.com", "numberofemployees": "12"}]
    )
    ada, nobody = await portal.fill(
        "contacts",
        [
            {"email": "ada@acme.com", "lastname": "Lovelace", "lifecyclestage": "opportunity"},
            {"email": "only@mail.com"},
        ],
    )
    ours = await crm.upsert(demo, "company", [{"name": "Beta", "domain": "beta.com"}])
    beta = ours.rows[0].id
    await crm.upsert(
        demo, "contact", [{"last_name": "Boole", "email": "boole@beta.com", "company_id": beta}]
    )
    await crm.upsert(
        demo, "deal", [{"name": "Big", "amount": 10, "stage": "proposal", "company_id": beta}]
    )
    run = await desk.run()
    assert run.error is None
    assert (run.state, run.counts["pulled_created"], run.counts["pushed_created"]) == ("done", 3, 3)
    state = await portal.state()
    contacts = state["records"]["contacts"]
    assert {each["email"] for each in contacts.values()} == {
        "ada@acme.com", "only@mail.com", "boole@beta.com"
    }  # fmt: skip
    assert len(state["links"]) == 4
    here = await rows("SELECT last_name, lifecycle FROM store.contacts ORDER BY email")
    assert here[0] == {"last_name": "Lovelace", "lifecycle": "qualified"}
    assert here[2] == {"last_name": "only", "lifecycle": "lead"}
    assert "lastname" not in contacts[nobody]
    quiet = [(await desk.run()).counts for _ in range(2)]
    assert all(set(counts) <= {"unchanged"} for counts in quiet), quiet
