"""Filters over related records, links, segments and times, against the demo data asked in SQL."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from pydantic import TypeAdapter

from fleet_common.errors import InvalidInput, NotFound, PermissionDenied
from fleet_data.claims import Caller
from fleet_data.crm.filters import Filter, moment
from fleet_data.crm.service import Crm
from fleet_data.pool import Database

FILTER: TypeAdapter[Filter] = TypeAdapter(Filter)
BIG = {"all": [{"field": "status", "value": "open"}, {"field": "amount", "op": "gt", "value": 9e4}]}
OPEN_DEAL = "FROM crm.deals d WHERE d.status = 'open' AND d.amount > 90000 AND d.company_id"
RECENT = (
    "SELECT deal_id FROM crm.activities WHERE occurred_at >= now() - interval '60 days' "
    "AND deal_id IS NOT NULL"
)


def where(condition: dict[str, Any]) -> Filter:
    return FILTER.validate_python(condition)


async def ids(crm: Crm, caller: Caller, name: str, condition: dict[str, Any]) -> set[str]:
    page = await crm.search(caller, name, where=where(condition), fields=["id"], limit=5000)
    return {row[0] for row in page.rows}


@pytest.mark.parametrize(
    ("name", "condition", "sql"),
    [
        (
            "contact",
            {"has": "company", "where": {"has": "deal", "where": BIG}},
            f"SELECT id FROM crm.contacts c WHERE EXISTS (SELECT {OPEN_DEAL} = c.company_id)",
        ),
        (
            "company",
            {"not": {"has": "deal", "where": BIG}},
            f"SELECT id FROM crm.companies c WHERE NOT EXISTS (SELECT {OPEN_DEAL} = c.id)",
        ),
        (
            "deal",
            {"not": {"has": "activity", "where": {"field": "occurred_at", "op": "gte", "value": "-60d"}}},
            f"SELECT id FROM crm.deals WHERE id NOT IN ({RECENT})",
        ),
        (
            "contact",
            {"has": "deal", "where": {"field": "stage", "op": "in", "value": ["won", "proposal"]}},
            "SELECT contact_id FROM crm.deals WHERE stage IN ('won', 'proposal')",
        ),
        (
            "deal",
            {"field": "expected_close", "op": "lt", "value": "+2w"},
            "SELECT id FROM crm.deals WHERE expected_close < current_date + 14",
        ),
        ("task", {"has": "deal"}, "SELECT id FROM crm.tasks WHERE deal_id IS NOT NULL"),
    ],
)  # fmt: skip
async def test_related_records_are_found_as_sql_finds_them(  # noqa: PLR0917 - fixtures and cases
    demo_crm: Crm, seeded: Database, demo: Caller, name: str, condition: dict[str, Any], sql: str
) -> None:
    async with seeded.reading(demo) as connection:
        expected = {row[0] for row in await connection.fetch(sql)} - {None}
    assert expected, "the demo data has none: the test says nothing"
    assert await ids(demo_crm, demo, name, condition) == expected


@pytest.mark.parametrize(
    ("condition", "says"),
    [
        ({"has": "planet"}, "no object 'planet'"),
        ({"has": "lead", "where": {"has": "company"}}, "no field relates lead and company"),
        ({"has": "deal", "where": {"field": "colour"}}, "deal has no field 'colour'"),
        ({"any": [{"has": "deal"}] * 9}, "at most 8 related objects"),
        (
            {"has": "deal", "where": {"has": "task", "where": {"has": "contact", "where": {"has": "note"}}}},
            "3 within each other",
        ),
    ],
)  # fmt: skip
async def test_what_cannot_be_asked_is_refused_with_the_reason(
    demo_crm: Crm, demo: Caller, condition: dict[str, Any], says: str
) -> None:
    with pytest.raises(InvalidInput, match=says):
        await ids(demo_crm, demo, "contact", condition)


async def test_masked_fields_of_related_records_cannot_be_asked_about(
    demo_crm: Crm, demo: Caller
) -> None:
    masked = replace(demo, masks=frozenset({"deal.amount", "note.company_id"}))
    for condition in ({"has": "company", "where": {"has": "deal", "where": BIG}},):
        with pytest.raises(PermissionDenied, match="amount of deal is masked"):
            await ids(demo_crm, masked, "contact", condition)
    with pytest.raises(PermissionDenied, match="company_id of note is masked"):
        await ids(demo_crm, masked, "company", {"has": "note"})


async def test_values_are_bound_and_never_text_of_the_statement(
    demo_crm: Crm, demo: Caller
) -> None:
    attack = "x' OR true --"
    asked = {"has": "deal", "link": attack, "where": {"field": "name", "value": attack}}
    assert await ids(demo_crm, demo, "contact", asked) == set()


async def test_links_custom_properties_and_segments_are_asked_about(
    crm: Crm, database: Database, demo: Caller, other: Caller
) -> None:
    await crm.upsert(demo, "property", [{"object": "deal", "name": "x_tier", "kind": "integer"}])
    made = await crm.upsert(demo, "contact", [{"last_name": n} for n in ("Ada", "Grace", "Joan")])
    ada, grace, joan = (str(row.id) for row in made.rows)
    deal = (await crm.upsert(demo, "deal", [{"name": "Engine", "x_tier": 2}])).rows[0].id
    gold = {"has": "deal", "link": "decides", "where": {"field": "x_tier", "op": "gte", "value": 2}}
    segments: list[dict[str, Any]] = [
        {"name": "List", "kind": "static"},
        {"name": "Gold", "filter": gold},
        {"name": "Companies", "object": "company", "kind": "static"},
    ]
    saved = await crm.upsert(demo, "segment", segments)
    listed, golden, companies = (str(row.id) for row in saved.rows)
    async with database.writing(demo) as connection:
        await connection.execute(
            "INSERT INTO store.links (tenant, id, from_object, from_id, type, to_object, to_id, created_by, "
            "updated_by) VALUES ('demo', $1, 'contact', $2, 'decides', 'deal', $3, 't', 't')",
            *(str(uuid4()), ada, deal),
        )
        await connection.execute(
            "INSERT INTO store.segment_members (tenant, segment_id, record_id, added_by) "
            "VALUES ('demo', $1, $2, 't')",
            *(listed, grace),
        )
    assert await ids(crm, demo, "contact", gold) == {ada}
    assert await ids(crm, demo, "deal", {"has": "contact", "link": "decides"}) == {deal}
    both = {"any": [{"segment": listed}, {"segment": golden}]}
    assert await ids(crm, demo, "contact", both) == {ada, grace}
    assert await ids(crm, demo, "contact", {"not": both}) == {joan}
    for wrong, says in ((companies, "is of company, not of contact"),):
        with pytest.raises(InvalidInput, match=says):
            await ids(crm, demo, "contact", {"segment": wrong})
    with pytest.raises(NotFound, match="segment"):
        await ids(crm, other, "contact", {"segment": listed})
    await crm.upsert(demo, "segment", [{"id": golden, "filter": {"not": {"segment": golden}}}])
    with pytest.raises(InvalidInput, match="3 segments within each other"):
        await ids(crm, demo, "contact", {"segment": golden})


@pytest.mark.parametrize("text", ["30d", "-30", "-30y", "- 30d", "-99999d", "-1d;", "2026-01-01"])
def test_only_a_signed_distance_is_a_relative_time(text: str) -> None:
    assert moment(text) is None
    assert moment("-1d") is not None
