from __future__ import annotations

import pytest

from fleet_common import errors


def test_text_is_code_message_hint_and_wait() -> None:
    error = errors.Overloaded("all slots are busy", retry_after_s=1.5, hint="Try later")
    assert str(error) == "overloaded: all slots are busy. Try later (retry after 1.5 s)"


def test_facts_for_programs_carry_the_wait_in_milliseconds() -> None:
    facts = errors.Unavailable("PostgreSQL", retry_after_s=0.25).to_dict()
    assert facts == {
        "code": "unavailable",
        "message": "PostgreSQL is not available right now",
        "retryable": True,
        "retryAfterMs": 250,
    }


def test_not_found_reads_as_kind_and_key() -> None:
    assert str(errors.NotFound("contact", 7)) == "not_found: contact 7 not found"


def test_the_table_has_each_code_once_and_no_reserved_jsonrpc_code() -> None:
    table = errors.error_table()
    codes = [row.code for row in table]
    assert len(codes) == len(set(codes))
    assert {"invalid_input", "overloaded", "internal"} <= set(codes)
    # MCP reserves -32020..-32099; -32000 and around belong to the transport.
    assert not [row for row in table if -32099 <= row.jsonrpc_code <= -32000]


OWN = [
    kind for kind in vars(errors).values() if isinstance(kind, type)
]  # not those of the services


@pytest.mark.parametrize(
    "kind",
    [kind for kind in OWN if issubclass(kind, errors.FleetError) and kind is not errors.FleetError],
)
def test_retryable_codes_are_the_ones_http_calls_temporary(kind: type[errors.FleetError]) -> None:
    assert kind.retryable is (kind.http_status in {428, 429, 503, 504})
