from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fleet_common.policy import BUILT_IN, BadPolicy, parse_policy

ROLE = "version: 1\nroles:\n  viewer:\n    scopes: ['data:read']\n"


def mistakes(text: str) -> list[tuple[int, str, str]]:
    with pytest.raises(BadPolicy) as caught:
        parse_policy(text)
    return [(each.line, each.where, each.what) for each in caught.value.mistakes]


def test_a_file_becomes_a_policy() -> None:
    policy = parse_policy(ROLE + "    max_rows: 100\n")
    assert policy.roles["viewer"].max_rows == 100
    assert policy.roles["viewer"].scopes == {"data:read"}


def test_the_built_in_roles_are_the_ones_the_documents_name() -> None:
    assert list(BUILT_IN.roles) == ["viewer", "analyst", "sales", "operator", "admin", "approver"]


@pytest.mark.parametrize(
    ("text", "line", "where", "what"),
    [
        (ROLE + "    max_row: 5\n", 5, "roles.viewer.max_row", "unknown key"),
        ("version: 1\n\nrolls: {}\n", 3, "rolls", "unknown key"),
        (ROLE + "    max_rows: 0\n", 5, "roles.viewer.max_rows", "greater than or equal to 1"),
        (ROLE + "    max_rows: yes\n", 5, "roles.viewer.max_rows", "valid integer"),
        ("roles: {}\n", 1, "version", "Field required"),
        ("version: 2\n", 1, "version", "Input should be 1"),
        ("version: 1\nroles:\n  Admin: {}\n", 3, "roles.Admin", "match pattern"),
        ("version: 1\nroles:\n  a:\n    tools:\n    - ok\n    - ''\n", 6, "roles.a.tools[1]", "at least 1"),
        (ROLE + "    deny: []\n    deny: ['crm_*']\n", 6, "roles.viewer.deny", "is there twice"),
        ("version: 1\nroles:\n\t- x\n", 3, "", "cannot start any token"),
        ("version: 1\nroles: !!python/object:os.system {}\n", 2, "", "could not determine a constructor"),
        ("- 1\n", 1, "", "valid dictionary"),
        ("", 1, "", "empty"),
        ("# only a comment\n", 1, "", "empty"),
        ("version: 2001-99-99\n", 1, "", "not YAML"),
        ("[" * 400, 1, "", "not YAML"),
        ("version: 1\n" + " " * 300_000, 1, "", "larger than 256 KiB"),
    ],
)  # fmt: skip
def test_a_mistake_is_shown_with_its_line(text: str, line: int, where: str, what: str) -> None:
    found = mistakes(text)
    assert (found[0][0], found[0][1]) == (line, where)
    assert what in found[0][2]


def test_all_mistakes_come_at_once_in_the_order_of_the_file() -> None:
    text = "version: 1\nroles:\n  a: {maxrows: 1}\n  b:\n    masks: ['E-Mail']\napproval: []\n"
    assert [line for line, _, _ in mistakes(text)] == [3, 5, 6]


def test_an_alias_is_refused_before_it_can_grow() -> None:
    bomb = "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n"
    assert mistakes(bomb) == [(2, "", "aliases are not supported")]


def test_the_message_reads_like_a_compilers() -> None:
    with pytest.raises(BadPolicy) as caught:
        parse_policy("version: 1\n\nrolls: {}\n", "fleet-policy.yaml")
    assert caught.value.message == "fleet-policy.yaml:3: rolls: unknown key"


def test_a_message_never_repeats_a_value() -> None:
    with pytest.raises(BadPolicy) as caught:
        parse_policy(ROLE + "    description: [hunter2]\n")
    assert "hunter2" not in str(caught.value)


WORDS = [
    "version",
    "roles",
    "scopes",
    "limits",
    "deny",
    "data:read",
    ":",
    "-",
    "[",
    "]",
    "{",
    "}",
    "&a",
    "*a",
    "!!int",
    "!!bool",
    "!!timestamp",
    "!!set",
    "<<",
    "'",
    "|",
    "1",
    "?",
    "%",
    "#",
]
PIECES = st.sampled_from([*WORDS, '"', " ", "\n", "\n  ", "\t", "\x00", "\ud7ff"])


@given(st.one_of(st.text(max_size=200), st.lists(PIECES, max_size=60).map("".join)))
@example("!!int")
@example("version: !!bool x")
@example("version: !!timestamp x")
@example("? [a]: b")
def test_any_text_is_a_policy_or_a_mistake_with_a_line(text: str) -> None:
    lines = [1]
    try:
        parse_policy(text)
    except BadPolicy as exc:
        lines = [mistake.line for mistake in exc.mistakes]
    assert min(lines) >= 1
