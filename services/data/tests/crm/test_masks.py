"""A masked field shows no value and tells nothing about it by any other way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import TypeAdapter

from fleet_common.errors import PermissionDenied
from fleet_data.claims import Caller
from fleet_data.crm.filters import Filter
from fleet_data.crm.models import MASK
from fleet_data.crm.objects import OBJECTS
from fleet_data.crm.service import Crm

FILTER: TypeAdapter[Filter] = TypeAdapter(Filter)


@pytest.fixture
def masked(demo: Caller) -> Caller:
    return replace(demo, masks=frozenset({"phone", "contact.email"}))


async def test_that_a_value_is_missing_is_hidden_too(demo_crm: Crm, demo: Caller) -> None:
    masked = replace(demo, masks=frozenset({"contact_id"}))
    seen = await demo_crm.search(demo, "lead", fields=["contact_id"], limit=200)
    hidden = await demo_crm.search(masked, "lead", fields=["contact_id"], limit=200)
    assert None in {row[0] for row in seen.rows}
    assert {row[0] for row in hidden.rows} == {MASK}


async def test_values_of_masked_fields_are_hidden(demo_crm: Crm, masked: Caller) -> None:
    page = await demo_crm.search(masked, "contact", fields=["id", "email", "phone"], limit=200)
    assert {tuple(row[1:]) for row in page.rows} == {(MASK, MASK)}
    found = await demo_crm.get(masked, "contact", [page.rows[0][0]])
    record = dict(zip(found.page.columns, found.page.rows[0], strict=True))
    assert (record["email"], record["phone"], record["id"]) == (MASK, MASK, page.rows[0][0])


async def test_a_mask_for_one_object_leaves_the_others_alone(
    demo_crm: Crm, demo: Caller, masked: Caller
) -> None:
    asked: dict[str, Any] = {"fields": ["email"], "limit": 20}
    assert await demo_crm.search(masked, "lead", **asked) == await demo_crm.search(
        demo, "lead", **asked
    )


@pytest.mark.parametrize(
    "question",
    [
        {"where": {"field": "email", "op": "starts_with", "value": "a"}},
        {"where": {"not": {"any": [{"field": "city", "value": "x"}, {"field": "phone", "op": "is_null"}]}}},
        {"sort": "email"},
        {"sort": "-phone"},
    ],
)  # fmt: skip
async def test_a_masked_field_is_no_condition_and_no_order(
    demo_crm: Crm, masked: Caller, question: dict[str, Any]
) -> None:
    if "where" in question:
        question = {"where": FILTER.validate_python(question["where"])}
    with pytest.raises(PermissionDenied, match=r"(email|phone) of contact is masked"):
        await demo_crm.search(masked, "contact", **question)


async def test_words_are_not_looked_for_in_a_masked_field(
    demo_crm: Crm, demo: Caller, masked: Caller
) -> None:
    page = await demo_crm.search(demo, "contact", fields=["email", "last_name"], limit=1)
    address = str(page.rows[0][0])
    for caller, finds in ((demo, True), (masked, False)):
        found = await demo_crm.search(caller, "contact", query=address, fields=["id"])
        assert bool(found.rows) is finds
    by_name = await demo_crm.search(masked, "contact", query=str(page.rows[0][1]), fields=["id"])
    assert by_name.rows


async def test_a_query_with_nothing_left_to_look_into_is_refused(
    demo_crm: Crm, demo: Caller
) -> None:
    searched = frozenset(f.name for f in OBJECTS["contact"].fields.values() if f.searched)
    with pytest.raises(PermissionDenied, match="all that a query looks into is masked"):
        await demo_crm.search(replace(demo, masks=searched), "contact", query="ada")


@pytest.mark.parametrize(
    ("record", "match_on"),
    [
        ({"last_name": "New", "email": "new@example.com"}, "id"),
        ({"last_name": "New", "email": "new@example.com"}, "email"),
        ({"last_name": "New"}, "email"),
    ],
)
async def test_a_masked_field_is_neither_set_nor_matched(
    demo_crm: Crm, masked: Caller, record: dict[str, Any], match_on: str
) -> None:
    with pytest.raises(PermissionDenied, match="email of contact is masked"):
        await demo_crm.upsert(masked, "contact", [record], match_on=match_on, dry_run=True)


async def test_other_fields_of_a_record_with_masked_ones_can_be_written(
    demo_crm: Crm, masked: Caller
) -> None:
    page = await demo_crm.search(masked, "contact", fields=["id", "city"], limit=1)
    change = {"id": page.rows[0][0], "city": "Elsewhere"}
    done = await demo_crm.upsert(masked, "contact", [change], dry_run=True)
    assert done.rows[0].outcome == "updated"
    assert set(done.rows[0].detail) == {"city"}


async def test_the_schema_says_what_is_masked(demo_crm: Crm, masked: Caller) -> None:
    schema = await demo_crm.describe(masked, "contact")
    assert {each["name"] for each in schema["fields"] if each.get("masked")} == {"email", "phone"}
