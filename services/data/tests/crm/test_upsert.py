"""Creating and changing records: outcomes, versions, keys, dry runs, history."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from fleet_common.errors import InvalidInput, KeyReused
from fleet_data.claims import Caller
from fleet_data.crm.models import Upserted
from fleet_data.crm.service import Crm
from fleet_data.errors import UnknownTenant

ADA = {"first_name": "Ada", "last_name": "Lovelace", "email": "ada@example.com"}


def outcomes(result: Upserted) -> list[str]:
    return [row.outcome for row in result.rows]


async def one(crm: Crm, caller: Caller, name: str, record: dict[str, Any], **more: Any) -> Any:
    result = await crm.upsert(caller, name, [record], **more)
    return result.rows[0]


async def value(crm: Crm, caller: Caller, name: str, id_: str, field: str) -> Any:
    found = await crm.get(caller, name, [id_], fields=[field])  # type: ignore[list-item]
    return found.page.rows[0][0]


async def test_record_is_created_then_unchanged_then_updated(crm: Crm, demo: Caller) -> None:
    created = await one(crm, demo, "contact", ADA, match_on="email")
    same = await one(crm, demo, "contact", ADA, match_on="email")
    changed = await one(crm, demo, "contact", {**ADA, "title": "Countess"}, match_on="email")
    assert [r.outcome for r in (created, same, changed)] == ["created", "unchanged", "updated"]
    assert created.id == same.id == changed.id
    assert [r.version for r in (created, same, changed)] == [1, 1, 2]
    assert await value(crm, demo, "contact", changed.id, "first_name") == "Ada"
    assert await value(crm, demo, "contact", changed.id, "updated_by") == demo.subject


@pytest.mark.parametrize("amount", [0.1, 100, 9999999999999.99, "1234567890123456.78", 10**15])
async def test_an_amount_written_again_is_unchanged(crm: Crm, demo: Caller, amount: Any) -> None:
    deal = await one(crm, demo, "deal", {"name": "one", "amount": amount})
    shown = await value(crm, demo, "deal", deal.id, "amount")
    for again in (amount, shown):
        same = await one(crm, demo, "deal", {"id": deal.id, "amount": again})
        assert (same.outcome, same.version) == ("unchanged", 1)


async def test_null_empties_a_field_and_absence_leaves_it(crm: Crm, demo: Caller) -> None:
    ada = await one(crm, demo, "contact", {**ADA, "title": "Countess"})
    await one(crm, demo, "contact", {"id": ada.id, "first_name": None})
    assert await value(crm, demo, "contact", ada.id, "first_name") is None
    assert await value(crm, demo, "contact", ada.id, "title") == "Countess"


async def test_every_row_has_its_own_outcome_and_the_good_ones_stay(crm: Crm, demo: Caller) -> None:
    await one(crm, demo, "contact", ADA)
    result = await crm.upsert(
        demo,
        "contact",
        [
            {"last_name": "Hopper", "email": "grace@example.com"},
            {"last_name": "Twin", "email": "ada@example.com"},
            {"last_name": "X", "email": "no mail"},
            {"first_name": "Nameless"},
            {"id": str(uuid4()), "last_name": "Ghost"},
            {"last_name": "Orphan", "company_id": str(uuid4())},
            {"last_name": "Hamilton", "email": "margaret@example.com"},
        ],
    )
    assert outcomes(result) == ["created", *["error"] * 5, "created"]
    assert result.counts == {"created": 2, "error": 5}
    details = [row.detail for row in result.rows[1:6]]
    for detail, says in zip(
        details,
        (
            "already_exists: a record with this email",
            "invalid_input: email: a mail address expected",
            "invalid_input: a new contact needs last_name",
            "not_found: contact",
            "invalid_input: company_id points at nothing",
        ),
        strict=True,
    ):
        assert detail.startswith(says)
    page = await crm.search(demo, "contact", fields=["last_name"])
    assert sorted(row[0] for row in page.rows) == ["Hamilton", "Hopper", "Lovelace"]


async def test_same_match_twice_in_a_call_is_an_error_of_the_second(crm: Crm, demo: Caller) -> None:
    result = await crm.upsert(demo, "contact", [ADA, ADA], match_on="email")
    assert outcomes(result) == ["created", "error"]
    assert "same email" in result.rows[1].detail


async def test_stale_version_is_refused_and_says_which_it_is(crm: Crm, demo: Caller) -> None:
    ada = await one(crm, demo, "contact", ADA)
    await one(crm, demo, "contact", {"id": ada.id, "title": "a"}, if_version=1)
    late = await one(crm, demo, "contact", {"id": ada.id, "title": "b"}, if_version=1)
    assert late.outcome == "error"
    assert late.version == 2
    assert "conflict: the record is at version 2, not 1" in late.detail
    own = await one(crm, demo, "contact", {"id": ada.id, "title": "c", "version": 2}, if_version=1)
    assert own.outcome == "updated"


async def test_five_hundred_records_with_a_bad_one_in_the_middle(crm: Crm, demo: Caller) -> None:
    records = [{"last_name": f"N{i}", "email": f"n{i}@example.com"} for i in range(500)]
    records[250]["company_id"] = str(uuid4())
    result = await crm.upsert(demo, "contact", records)
    assert result.counts == {"created": 499, "error": 1}
    assert result.rows[250].outcome == "error"
    again = await crm.upsert(demo, "contact", records[:250], match_on="email")
    assert again.counts == {"unchanged": 250}
    assert again.change_set_id is None


async def test_same_key_gives_the_same_answer_and_changes_nothing(
    crm: Crm, demo: Caller, admin_connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    first = await crm.upsert(demo, "note", [{"body": "once"}], idempotency_key="key-0001")
    second = await crm.upsert(demo, "note", [{"body": "once"}], idempotency_key="key-0001")
    assert second == first
    assert await admin_connection.fetchval("SELECT count(*) FROM store.notes") == 1


async def test_same_key_at_the_same_time_changes_once(
    crm: Crm, demo: Caller, admin_connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    answers = await asyncio.gather(
        *(crm.upsert(demo, "note", [{"body": "x"}], idempotency_key="key-0002") for _ in range(4))
    )
    assert len({answer.rows[0].id for answer in answers}) == 1
    assert await admin_connection.fetchval("SELECT count(*) FROM store.notes") == 1


async def test_same_key_with_other_arguments_is_a_conflict(crm: Crm, demo: Caller) -> None:
    await crm.upsert(demo, "note", [{"body": "x"}], idempotency_key="key-0003")
    with pytest.raises(KeyReused, match="used with other arguments"):
        await crm.upsert(demo, "note", [{"body": "y"}], idempotency_key="key-0003")


async def test_key_of_somebody_else_is_another_key(crm: Crm, demo: Caller) -> None:
    colleague = Caller("demo", "key:other")
    first = await crm.upsert(demo, "note", [{"body": "x"}], idempotency_key="key-0004")
    second = await crm.upsert(colleague, "note", [{"body": "y"}], idempotency_key="key-0004")
    assert first.rows[0].id != second.rows[0].id


async def test_key_of_a_failed_call_is_free_again(crm: Crm, demo: Caller) -> None:
    stranger = Caller("nobody", "key:1")
    with pytest.raises(UnknownTenant):
        await crm.upsert(stranger, "note", [{"body": "x"}], idempotency_key="key-0005")
    result = await crm.upsert(demo, "note", [{"body": "x"}], idempotency_key="key-0005")
    assert outcomes(result) == ["created"]


async def test_expired_key_starts_anew(
    crm: Crm, demo: Caller, admin_connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    await crm.upsert(demo, "note", [{"body": "x"}], idempotency_key="key-0006")
    await admin_connection.execute(
        "UPDATE store.idempotency SET expires_at = now() - interval '1s'"
    )
    result = await crm.upsert(demo, "note", [{"body": "y"}], idempotency_key="key-0006")
    assert outcomes(result) == ["created"]


async def test_dry_run_shows_differences_and_keeps_nothing(
    crm: Crm, demo: Caller, admin_connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    ada = await one(crm, demo, "contact", ADA)
    before = await admin_connection.fetchval("SELECT count(*) FROM store.change_log")
    result = await crm.upsert(
        demo,
        "contact",
        [
            {"id": ada.id, "title": "Countess"},
            {"last_name": "New"},
            {"last_name": "Twin", "email": "ada@example.com"},
        ],
        dry_run=True,
        idempotency_key="key-0007",
    )
    assert outcomes(result) == ["updated", "created", "error"]
    assert result.rows[0].detail == {"title": [None, "Countess"]}
    assert result.rows[1].detail == {"last_name": [None, "New"], "lifecycle": [None, "lead"]}
    assert (result.rows[1].id, result.change_set_id, result.dry_run) == (None, None, True)
    assert await value(crm, demo, "contact", ada.id, "version") == 1
    assert await admin_connection.fetchval("SELECT count(*) FROM store.change_log") == before
    assert await admin_connection.fetchval("SELECT count(*) FROM store.idempotency") == 0


async def test_change_log_says_what_was_before_under_one_change_set(
    crm: Crm, demo: Caller, admin_connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    ada = await one(crm, demo, "contact", ADA)
    result = await crm.upsert(
        demo, "contact", [{"id": ada.id, "first_name": "Augusta"}, {"last_name": "New"}]
    )
    rows = await admin_connection.fetch(
        "SELECT object, actor, version, before->>'first_name' AS before, before IS NULL AS made, tenant "
        "FROM store.change_log WHERE change_set = $1::text::uuid ORDER BY version DESC",
        result.change_set_id,
    )
    assert [tuple(row) for row in rows] == [
        ("contact", demo.subject, 2, "Ada", False, "demo"),
        ("contact", demo.subject, 1, None, True, "demo"),
    ]


async def test_deal_follows_its_stages(
    crm: Crm, demo: Caller, admin_connection: asyncpg.Connection[asyncpg.Record]
) -> None:
    deal = await one(crm, demo, "deal", {"name": "Big", "amount": 1000})
    assert await value(crm, demo, "deal", deal.id, "status") == "open"
    await one(crm, demo, "deal", {"id": deal.id, "stage": "won"})
    assert await value(crm, demo, "deal", deal.id, "status") == "won"
    assert await value(crm, demo, "deal", deal.id, "closed_at") is not None
    await one(crm, demo, "deal", {"id": deal.id, "stage": "proposal"})
    assert await value(crm, demo, "deal", deal.id, "closed_at") is None
    stages = await admin_connection.fetch(
        "SELECT stage FROM store.deal_stage_history ORDER BY entered_at"
    )
    assert [row["stage"] for row in stages] == ["new", "won", "proposal"]


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ({"name": "x", "stage": "imaginary"}, "stage points at nothing that exists"),
        ({"name": "x", "currency": "eur"}, "currency is out of range"),
        ({"name": "x", "amount": -1}, "amount is out of range"),
        ({"name": "x", "status": "won"}, "status cannot be set"),
    ],
)
async def test_wrong_deal_is_explained(
    crm: Crm, demo: Caller, record: dict[str, Any], says: str
) -> None:
    row = await one(crm, demo, "deal", record)
    assert row.outcome == "error"
    assert says in row.detail


async def test_required_field_cannot_be_emptied(crm: Crm, demo: Caller) -> None:
    ada = await one(crm, demo, "contact", ADA)
    row = await one(crm, demo, "contact", {"id": ada.id, "last_name": None})
    assert row.detail == "invalid_input: last_name must not be empty"


async def test_record_of_another_tenant_cannot_be_linked_or_changed(
    crm: Crm, demo: Caller, other: Caller
) -> None:
    theirs = await one(crm, other, "company", {"name": "Theirs"})
    linked = await one(crm, demo, "contact", {"last_name": "X", "company_id": theirs.id})
    assert "company_id points at nothing" in linked.detail
    changed = await one(crm, demo, "company", {"id": theirs.id, "name": "Mine"})
    assert changed.detail.startswith("not_found")
    assert await value(crm, other, "company", theirs.id, "name") == "Theirs"


async def test_same_email_in_two_tenants_is_fine(crm: Crm, demo: Caller, other: Caller) -> None:
    assert (await one(crm, demo, "contact", ADA)).outcome == "created"
    assert (await one(crm, other, "contact", ADA)).outcome == "created"


async def test_tenant_without_a_crm_is_told_what_to_do(crm: Crm) -> None:
    with pytest.raises(UnknownTenant, match="fleet_data tenant NAME"):
        await crm.upsert(Caller("nobody", "key:1"), "note", [{"body": "x"}])


async def test_field_that_is_not_unique_cannot_be_matched_on(crm: Crm, demo: Caller) -> None:
    with pytest.raises(InvalidInput, match=r"contact cannot be matched on 'title'\. Use id, email"):
        await crm.upsert(demo, "contact", [ADA], match_on="title")


async def test_changes_at_the_same_time_do_not_get_lost(crm: Crm, demo: Caller) -> None:
    ada = await one(crm, demo, "contact", ADA)
    await asyncio.gather(
        one(crm, demo, "contact", {"id": ada.id, "title": "Countess"}),
        one(crm, demo, "contact", {"id": ada.id, "city": "London"}),
    )
    assert await value(crm, demo, "contact", ada.id, "title") == "Countess"
    assert await value(crm, demo, "contact", ada.id, "city") == "London"
    assert await value(crm, demo, "contact", ada.id, "version") == 3
