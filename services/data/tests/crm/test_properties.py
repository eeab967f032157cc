"""Custom properties: declared as records, then written, read, filtered and sorted like fields of the CRM's own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from pydantic import TypeAdapter

from fleet_common.errors import InvalidInput
from fleet_data.claims import Caller
from fleet_data.crm.filters import Filter
from fleet_data.crm.models import MASK
from fleet_data.crm.service import Crm

FILTER: TypeAdapter[Filter] = TypeAdapter(Filter)
TIER = {"object": "company", "name": "x_tier", "kind": "enum", "choices": "gold, silver"}
SEATS = {"object": "company", "name": "x_seats", "kind": "integer"}


async def found(crm: Crm, caller: Caller, where: Any = None, **how: Any) -> list[Any]:
    condition = FILTER.validate_python(where) if where else None
    page = await crm.search(caller, "company", where=condition, fields=["name"], **how)
    return [row[0] for row in page.rows]


async def test_values_are_checked_kept_and_found(crm: Crm, demo: Caller, other: Caller) -> None:
    defined = await crm.upsert(demo, "property", [TIER, SEATS])
    made = await crm.upsert(
        demo,
        "company",
        [
            {"name": "A", "x_tier": "gold", "x_seats": 9},
            {"name": "B", "x_tier": "silver", "x_seats": 10},
            {"name": "C"},
            {"name": "D", "x_tier": "bronze"},
            {"name": "E", "x_colour": "red"},
        ],
    )
    assert made.counts == {"created": 3, "error": 2}
    assert made.rows[3].detail == "invalid_input: x_tier: one of gold, silver"
    assert made.rows[4].detail.startswith("invalid_input: company has no field 'x_colour'")
    assert await found(crm, demo, {"field": "x_tier", "value": "gold"}) == ["A"]
    assert await found(
        crm, demo, {"field": "x_seats", "op": "gte", "value": 9}, sort="-x_seats"
    ) == ["B", "A"]
    assert await found(crm, demo, {"field": "x_tier", "op": "is_null"}) == ["C"]
    # One value is set, the other stays; null empties.
    id_ = UUID(made.rows[0].id)
    await crm.upsert(demo, "company", [{"id": str(id_), "x_seats": 12}])
    assert await record(crm, demo, id_) == {"x_tier": "gold", "x_seats": 12}
    await crm.upsert(demo, "company", [{"id": str(id_), "x_tier": None, "name": "A2"}])
    assert await record(crm, demo, id_) == {"x_tier": None, "x_seats": 12}
    masked = replace(demo, masks=frozenset({"company.x_seats"}))
    assert await record(crm, masked, id_) == {"x_tier": None, "x_seats": MASK}
    described = await crm.describe(demo, "company")
    assert {f["name"]: f.get("choices") for f in described["fields"]}["x_tier"] == [
        "gold",
        "silver",
    ]
    # Another tenant has none of it, and what is defined stays what it is.
    with pytest.raises(InvalidInput, match="no field 'x_tier'"):
        await found(crm, other, {"field": "x_tier", "value": "gold"})
    changed = await crm.upsert(demo, "property", [{"id": defined.rows[1].id, "kind": "text"}])
    assert changed.rows[0].detail == "invalid_input: kind of a property cannot change"


async def record(crm: Crm, caller: Caller, id_: UUID) -> dict[str, Any]:
    """Return the custom properties of a company."""
    got = await crm.get(caller, "company", [id_])
    values = dict(zip(got.page.columns, got.page.rows[0], strict=True))
    return {name: value for name, value in values.items() if name.startswith("x_")}


@pytest.mark.parametrize(
    ("definition", "says"),
    [
        ({**TIER, "name": "tier"}, "name: x_ and then"),
        ({**TIER, "name": "x_Tier"}, "name: x_ and then"),
        ({**TIER, "choices": " , "}, "choices: an enum needs them"),
        ({**SEATS, "choices": "1,2"}, "choices: an enum needs them"),
        ({**SEATS, "object": "property"}, "object: one of company"),
    ],
)
async def test_what_cannot_be_a_field_is_no_definition(
    crm: Crm, demo: Caller, definition: dict[str, Any], says: str
) -> None:
    result = await crm.upsert(demo, "property", [definition])
    assert says in result.rows[0].detail
