from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_common.errors import InvalidInput
from fleet_data.crm.objects import OBJECTS
from fleet_data.crm.values import new_record, parse_draft, parse_value

CONTACT, DEAL, COMPANY, TASK = (OBJECTS[n] for n in ("contact", "deal", "company", "task"))


@pytest.mark.parametrize(
    ("of", "field", "value", "stored"),
    [
        (CONTACT, "email", " Ada@Example.COM ", "ada@example.com"),
        (CONTACT, "first_name", "   ", None),
        (
            CONTACT,
            "company_id",
            "{A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11}",
            "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        ),
        (COMPANY, "domain", "Example.org", "example.org"),
        (COMPANY, "employees", 12.0, 12),
        (COMPANY, "website", "https://example.org/a", "https://example.org/a"),
        (DEAL, "amount", "1200.50", 1200.5),
        (DEAL, "amount", 1200.0, 1200),
        (DEAL, "expected_close", "2026-12-24", "2026-12-24"),
        (TASK, "due_at", "2026-11-21T10:00:00+02:00", "2026-11-21T08:00:00Z"),
        (TASK, "due_at", "2026-11-21T10:00:00.500000", "2026-11-21T10:00:00.5Z"),
        (TASK, "status", "done", "done"),
        (TASK, "status", None, None),
    ],
)
def test_value_is_stored_in_one_form(of: Any, field: str, value: Any, stored: Any) -> None:
    assert parse_value(of.fields[field], value) == stored


@pytest.mark.parametrize(
    ("of", "field", "value", "says"),
    [
        (CONTACT, "email", "no mail", "email: a mail address expected"),
        (CONTACT, "email", 7, "email: a mail address expected"),
        (CONTACT, "company_id", "x", "company_id: an id expected"),
        (CONTACT, "title", "x" * 301, "title: at most 300 characters"),
        (CONTACT, "title", "a\0b", "NUL"),
        (COMPANY, "domain", "no domain", "domain: a domain expected"),
        (COMPANY, "employees", 1.5, "employees: a whole number"),
        (COMPANY, "employees", True, "employees: a whole number"),
        (COMPANY, "employees", float("inf"), "employees: a whole number"),
        (COMPANY, "employees", 2**40, "employees: a whole number"),
        (DEAL, "amount", "many", "amount: a number expected"),
        (DEAL, "amount", float("nan"), "amount: a number expected"),
        (DEAL, "amount", 1e20, "amount: a number expected"),
        (DEAL, "expected_close", "24.12.2026", "expected_close: a date expected"),
        (TASK, "due_at", "tomorrow", "due_at: a time expected"),
        (TASK, "status", "later", "status: one of open, done, cancelled"),
    ],
)
def test_wrong_value_names_the_field_and_what_it_wants(
    of: Any, field: str, value: Any, says: str
) -> None:
    with pytest.raises(InvalidInput, match=says):
        parse_value(of.fields[field], value)


@given(st.sampled_from(sorted(OBJECTS)), st.data())
def test_any_json_value_is_stored_or_refused_with_a_reason(name: str, data: st.DataObject) -> None:
    field = data.draw(st.sampled_from(sorted(OBJECTS[name].fields)))
    value = data.draw(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text()
        | st.lists(st.integers())
    )
    try:
        stored = parse_value(OBJECTS[name].fields[field], value)
    except InvalidInput as exc:
        refusal = str(exc)
        stored = None
    else:
        refusal = f"invalid_input: {field}"
    assert refusal.startswith(f"invalid_input: {field}")
    assert stored is None or isinstance(stored, str | int | float)


def test_unknown_field_lists_those_there_are() -> None:
    with pytest.raises(InvalidInput, match=r"contact has no field 'mail'. Fields: id, first_name"):
        parse_draft(CONTACT, 0, {"mail": "x"}, match_on="id", if_version=None)


def test_field_of_the_system_cannot_be_set() -> None:
    with pytest.raises(InvalidInput, match="created_at cannot be set"):
        parse_draft(CONTACT, 0, {"created_at": "2026-01-01"}, match_on="id", if_version=None)


def test_version_in_a_record_goes_before_the_call() -> None:
    id_ = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"
    draft = parse_draft(CONTACT, 0, {"id": id_, "version": 3}, match_on="id", if_version=9)
    assert (draft.version, draft.match) == (3, ("id", id_))


def test_new_record_needs_its_required_fields_and_gets_defaults() -> None:
    with pytest.raises(InvalidInput, match="a new contact needs last_name"):
        new_record(CONTACT, {"first_name": "Ada"})
    record = new_record(DEAL, {"name": "Big"})
    assert (record["pipeline"], record["stage"], record["currency"]) == ("sales", "new", "EUR")
