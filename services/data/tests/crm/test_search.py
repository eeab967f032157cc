"""Searching and reading the demo data."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from pydantic import TypeAdapter

from fleet_common.errors import InvalidInput, PermissionDenied
from fleet_data.claims import Caller
from fleet_data.crm.filters import Filter
from fleet_data.crm.objects import OBJECTS
from fleet_data.crm.service import Crm
from fleet_data.pool import Database

FILTER: TypeAdapter[Filter] = TypeAdapter(Filter)


def where(condition: dict[str, Any]) -> Filter:
    return FILTER.validate_python(condition)


async def column(
    crm: Crm, caller: Caller, name: str, field: str, condition: dict[str, Any]
) -> list[Any]:
    page = await crm.search(caller, name, where=where(condition), fields=[field], limit=200)
    return [row[0] for row in page.rows]


@pytest.mark.parametrize("name", sorted(OBJECTS.keys() - {"link"}))
async def test_every_object_can_be_searched_and_read(
    demo_crm: Crm, demo: Caller, name: str
) -> None:
    page = await demo_crm.search(demo, name, limit=3)
    assert len(page.rows) == 3
    ids = [row[page.columns.index("id")] for row in page.rows]
    found = await demo_crm.get(demo, name, ids)
    named = tuple(column for column in found.page.columns if not column.startswith("x_"))
    assert named == tuple(OBJECTS[name].fields)
    assert [row[0] for row in found.page.rows] == ids


async def test_newest_come_first(demo_crm: Crm, demo: Caller) -> None:
    page = await demo_crm.search(demo, "contact", fields=["created_at"], limit=50)
    moments = [row[0] for row in page.rows]
    assert moments == sorted(moments, reverse=True)


@pytest.mark.parametrize(
    "sort", ["amount", "-amount", "expected_close", "-closed_at", "closed_at", None]
)
async def test_pages_hold_every_record_once_and_in_order(
    demo_crm: Crm, demo: Caller, sort: str | None
) -> None:
    field = (sort or "id").removeprefix("-")
    ids, values, cursor = [], [], None
    while True:
        page = await demo_crm.search(
            demo, "deal", sort=sort, fields=["id", field], limit=170, cursor=cursor
        )
        ids += [row[0] for row in page.rows]
        values += [row[-1] for row in page.rows]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert len(ids) == len(set(ids)) == 500
    present = [value for value in values if value is not None]
    is_descending = sort is None or sort.startswith("-")
    assert present == sorted(present, reverse=is_descending)
    assert all(value is None for value in values[len(present) :])


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ({"field": "status", "value": "won"}, lambda d: d["status"] == "won"),
        ({"field": "status", "op": "ne", "value": "won"}, lambda d: d["status"] != "won"),
        ({"field": "amount", "op": "gte", "value": 50_000}, lambda d: d["amount"] >= 50_000),
        ({"field": "amount", "op": "lt", "value": "9000"}, lambda d: d["amount"] < 9000),
        (
            {"field": "stage", "op": "in", "value": ["new", "lost"]},
            lambda d: d["stage"] in ("new", "lost"),
        ),
        (
            {"field": "stage", "op": "not_in", "value": ["new", "lost"]},
            lambda d: d["stage"] not in ("new", "lost"),
        ),
        (
            {"field": "name", "op": "contains", "value": "RENEW"},
            lambda d: "renew" in d["name"].lower(),
        ),
        ({"field": "name", "op": "starts_with", "value": "s"}, lambda d: d["name"][0] in "sS"),
        ({"field": "closed_at", "op": "is_null"}, lambda d: d["closed_at"] is None),
        ({"field": "closed_at", "value": None}, lambda d: d["closed_at"] is None),
        ({"field": "closed_at", "op": "not_null"}, lambda d: d["closed_at"] is not None),
        (
            {"field": "expected_close", "op": "lte", "value": "2026-11-20"},
            lambda d: d["expected_close"] <= "2026-11-20",
        ),
        (
            {"field": "stage_changed_at", "op": "gt", "value": "2026-06-01T00:00:00Z"},
            lambda d: d["stage_changed_at"] > "2026-06-01T00:00:00Z",
        ),
        (
            {
                "all": [
                    {"field": "status", "value": "open"},
                    {"not": {"field": "stage", "value": "new"}},
                ]
            },
            lambda d: d["status"] == "open" and d["stage"] != "new",
        ),
        (
            {
                "any": [
                    {"field": "stage", "value": "won"},
                    {"field": "amount", "op": "lt", "value": 5000},
                ]
            },
            lambda d: d["stage"] == "won" or d["amount"] < 5000,
        ),
        (
            {"not": {"field": "closed_at", "op": "gt", "value": "2026-01-01"}},
            lambda d: d["closed_at"] is None or d["closed_at"] <= "2026-01-01",
        ),
    ],
)
async def test_filter_keeps_exactly_what_it_says(
    demo_crm: Crm, demo: Caller, condition: dict[str, Any], holds: Any
) -> None:
    fields = [
        "id",
        "name",
        "status",
        "stage",
        "amount",
        "closed_at",
        "expected_close",
        "stage_changed_at",
    ]
    expected, got = set[str](), set[str]()
    for wanted, chosen in ((expected, None), (got, where(condition))):
        cursor = None
        while True:
            page = await demo_crm.search(
                demo, "deal", where=chosen, fields=fields, limit=200, cursor=cursor
            )
            for row in page.rows:
                deal = dict(zip(page.columns, row, strict=True))
                if chosen is not None or holds(deal):
                    wanted.add(deal["id"])
            cursor = page.next_cursor
            if cursor is None:
                break
    assert got == expected
    assert 0 < len(got) < 500


@pytest.mark.parametrize(
    ("condition", "says"),
    [
        ({"field": "colour", "value": 1}, "deal has no field 'colour'"),
        ({"field": "amount", "op": "gt", "value": "many"}, "amount: a number expected"),
        ({"field": "amount", "op": "gt"}, "gt needs a value"),
        ({"field": "amount", "op": "in", "value": 5}, "needs a list"),
        ({"field": "amount", "value": [5]}, "one value expected"),
        ({"field": "amount", "op": "contains", "value": "5"}, "needs a text field"),
        ({"field": "name", "op": "contains", "value": ""}, "needs a text field and a text"),
        ({"field": "stage; DROP TABLE x", "value": 1}, "deal has no field"),
        ({"all": [{"any": [{"field": "stage", "value": "x"}] * 20}] * 4}, "at most 50 conditions"),
    ],
)
async def test_wrong_filter_is_explained(
    demo_crm: Crm, demo: Caller, condition: dict[str, Any], says: str
) -> None:
    with pytest.raises(InvalidInput, match=says):
        await demo_crm.search(demo, "deal", where=where(condition))


async def test_special_characters_of_like_are_taken_literally(demo_crm: Crm, demo: Caller) -> None:
    for text in ("%", "_", "\\"):
        assert (
            await column(
                demo_crm, demo, "deal", "name", {"field": "name", "op": "contains", "value": text}
            )
            == []
        )


async def test_words_are_found_although_misspelt_best_first(demo_crm: Crm, demo: Caller) -> None:
    some = await demo_crm.search(demo, "contact", fields=["email", "last_name"], limit=1)
    email, name = some.rows[0]
    exact = await demo_crm.search(demo, "contact", query=email, fields=["email"])
    assert exact.rows[0][0] == email
    typo = f"{name[:2]}x{name[2:]}" if len(name) > 5 else f"{name}{name[-1]}"
    fuzzy = await demo_crm.search(demo, "contact", query=typo, fields=["last_name"], limit=200)
    assert name in [row[0] for row in fuzzy.rows]


async def test_pages_by_relevance_hold_every_hit_once(demo_crm: Crm, demo: Caller) -> None:
    ids, cursor = [], None
    while True:
        page = await demo_crm.search(
            demo, "company", query="group", fields=["id"], limit=7, cursor=cursor
        )
        ids += [row[0] for row in page.rows]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert len(ids) == len(set(ids)) > 7


@pytest.mark.parametrize(("sort", "says"), [("colour", "no field"), ("relevance", "needs a query")])
async def test_wrong_sort_is_explained(demo_crm: Crm, demo: Caller, sort: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        await demo_crm.search(demo, "deal", sort=sort)


async def test_unknown_ids_are_listed_and_others_returned_in_order(
    demo_crm: Crm, demo: Caller
) -> None:
    page = await demo_crm.search(demo, "contact", fields=["id"], limit=3)
    known = [row[0] for row in page.rows]
    unknown = uuid4()
    found = await demo_crm.get(
        demo, "contact", [known[2], unknown, known[0], known[2]], fields=["id"]
    )
    assert [row[0] for row in found.page.rows] == [known[2], known[0]]
    assert found.missing_ids == [str(unknown)]


async def test_other_tenant_finds_nothing(demo_crm: Crm, demo: Caller, other: Caller) -> None:
    page = await demo_crm.search(demo, "contact", fields=["id"], limit=1)
    assert (await demo_crm.search(other, "contact")).rows == []
    found = await demo_crm.get(other, "contact", [page.rows[0][0]])
    assert found.missing_ids == [page.rows[0][0]]


async def test_cursor_of_another_tenant_is_refused(
    demo_crm: Crm, demo: Caller, other: Caller
) -> None:
    page = await demo_crm.search(demo, "contact", limit=1)
    with pytest.raises(InvalidInput, match="cursor does not belong"):
        await demo_crm.search(other, "contact", limit=1, cursor=page.next_cursor)


async def test_schema_names_fields_choices_and_stages(demo_crm: Crm, demo: Caller) -> None:
    schema = await demo_crm.describe(demo, "deal")
    assert schema["sql_view"] == "crm.deals"
    assert [stage["key"] for stage in schema["stages"]][:2] == ["new", "qualified"]
    status = next(field for field in schema["fields"] if field["name"] == "status")
    assert status["choices"] == ["open", "won", "lost"]
    assert status["read_only"]


async def test_schema_of_an_unknown_object_lists_those_there_are(
    demo_crm: Crm, demo: Caller
) -> None:
    with pytest.raises(InvalidInput, match="Objects: company, contact"):
        await demo_crm.describe(demo, "x'; DROP TABLE contacts")


async def test_related_records_come_with_records(
    demo_crm: Crm, seeded: Database, demo: Caller
) -> None:
    async with seeded.reading(demo) as connection:
        rows = await connection.fetch(
            "SELECT id, company_id FROM crm.contacts WHERE id IN (SELECT contact_id FROM crm.deals) "
            "ORDER BY id LIMIT 3"
        )
    ids = [UUID(row["id"]) for row in rows]
    companies = await demo_crm.related(demo, "contact", "company", ids, limit=100)
    assert {row[0] for row in companies.rows} == {row["company_id"] for row in rows}
    deals = await demo_crm.related(demo, "contact", "deal", ids, limit=100)
    assert {UUID(row[deals.columns.index("contact_id")]) for row in deals.rows} == set(ids)
    few = await demo_crm.related(demo, "contact", "deal", ids, limit=1)
    assert (len(few.rows), few.next_cursor is None) == (1, len(deals.rows) == 1)
    with pytest.raises(InvalidInput, match="no field relates lead and company"):
        await demo_crm.related(demo, "lead", "company", ids, limit=1)
    blind = replace(demo, masks=frozenset({"contact.company_id"}))
    with pytest.raises(PermissionDenied):
        await demo_crm.related(blind, "contact", "company", ids, limit=1)
