from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest

from fleet_data.crm.objects import OBJECTS
from fleet_data.crm.values import parse_value
from fleet_data.demo.generator import AS_OF, Sizes, generate
from fleet_data.demo.models import Rows

SMALL = Sizes(users=3, companies=20, contacts=60, leads=30, deals=40)


def by_table(batch: list[Rows]) -> dict[str, list[dict[str, Any]]]:
    return {
        rows.table: [dict(zip(rows.columns, values, strict=True)) for values in rows.values]
        for rows in batch
    }


@pytest.fixture(scope="module")
def data() -> dict[str, list[dict[str, Any]]]:
    return by_table(generate(SMALL))


def test_same_rows_every_time(data: dict[str, list[dict[str, Any]]]) -> None:
    assert by_table(generate(SMALL)) == data


def test_day_of_the_data_moves_everything(data: dict[str, list[dict[str, Any]]]) -> None:
    later = by_table(generate(SMALL, as_of=datetime(2027, 1, 1, tzinfo=UTC)))
    assert later["contacts"][0]["created_at"] > data["contacts"][0]["created_at"]


def test_sizes_are_what_was_asked_for(data: dict[str, list[dict[str, Any]]]) -> None:
    counts = {table: len(rows) for table, rows in data.items()}
    assert counts["companies"] == 20
    assert counts["contacts"] == 60
    assert counts["leads"] == 30
    assert counts["deals"] == 40
    assert counts["activities"] >= counts["leads"] + counts["deals"]


def test_default_sizes_are_the_promised_ones() -> None:
    assert (Sizes().contacts, Sizes().companies, Sizes().deals, Sizes().leads) == (
        2000,
        300,
        500,
        1000,
    )


def test_every_company_has_somebody(data: dict[str, list[dict[str, Any]]]) -> None:
    people = Counter(contact["company_id"] for contact in data["contacts"])
    assert set(people) == {company["id"] for company in data["companies"]}


def test_unique_values_are_unique(data: dict[str, list[dict[str, Any]]]) -> None:
    for table, field in (("contacts", "email"), ("leads", "email"), ("companies", "domain")):
        values = [row[field] for row in data[table]]
        assert len(values) == len(set(values))


def test_nothing_happens_after_the_day_of_the_data(data: dict[str, list[dict[str, Any]]]) -> None:
    for rows in data.values():
        for row in rows:
            for field in ("created_at", "occurred_at", "entered_at", "stage_changed_at"):
                assert field not in row or row[field] <= AS_OF


def test_stages_of_a_deal_follow_one_another(data: dict[str, list[dict[str, Any]]]) -> None:
    order = {"new": 1, "qualified": 2, "proposal": 3, "negotiation": 4, "won": 5, "lost": 5}
    entered: dict[Any, list[tuple[Any, int]]] = {deal["id"]: [] for deal in data["deals"]}
    for step in data["deal_stage_history"]:
        entered[step["deal_id"]].append((step["entered_at"], order[step["stage"]]))
    for deal in data["deals"]:
        path = [*sorted(entered[deal["id"]]), (deal["stage_changed_at"], order[deal["stage"]])]
        assert path == sorted(path, key=lambda step: step[1])
        assert deal["stage"] != "won" or len(path) == 5


def test_records_are_what_a_caller_could_have_written(
    data: dict[str, list[dict[str, Any]]],
) -> None:
    for name, of in OBJECTS.items():
        if name == "link":  # made by people, with crm_link
            continue
        for row in data[of.table]:
            for field in of.writable:
                value = row.get(field.name)
                parse_value(field, value if value is None or isinstance(value, int) else str(value))
        assert len(data[of.table]) > 0, name
