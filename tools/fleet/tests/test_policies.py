"""The policy file as a person checks it and asks about it, without any service."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from fleet_cli.__main__ import main
from fleet_cli.policies import check, explain, read_catalogue
from fleet_cli.state import State
from fleet_common.auth.keys import KeyFile
from fleet_common.policy import Policy
from fleet_common.policy.catalogue import CatalogueTool
from fleet_common.testing import principal

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "policy.yaml"
Fleet = Callable[..., Result]


@pytest.fixture
def fleet(state: State, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    """Run `fleet policy WORDS` in the project."""
    monkeypatch.delenv("FLEET_POLICY_FILE", raising=False)

    def run(*words: str) -> Result:
        return CliRunner().invoke(main, ["--project", str(state.project), "policy", *words])

    return run


def written(state: State, text: str) -> Path:
    path = state.project / "fleet-policy.yaml"
    path.write_text(text, "utf-8")
    return path


def test_the_example_is_right_and_says_nothing_doubtful(fleet: Fleet) -> None:
    result = fleet("check", str(EXAMPLE))

    assert result.exit_code == 0
    assert result.stdout == f"{EXAMPLE}: 6 roles, 2 approval rules.\n"


def test_without_a_file_the_built_in_policy_is_checked(fleet: Fleet) -> None:
    result = fleet("check")

    assert (result.exit_code, result.stdout.split(":")[0]) == (0, "the built-in policy")


def test_a_mistake_in_the_projects_file_is_told_with_its_line(fleet: Fleet, state: State) -> None:
    path = written(state, "version: 1\nroles:\n  a:\n    maxrows: 5\n")

    result = fleet("check")

    assert result.exit_code == 1
    assert result.stderr == f"{path}:4: roles.a.maxrows: unknown key\n"


def test_a_file_that_is_not_there_is_a_sentence(fleet: Fleet, tmp_path: Path) -> None:
    result = fleet("check", str(tmp_path / "absent.yaml"))

    assert result.exit_code == 1
    assert "absent.yaml:1: cannot be read (No such file or directory)" in result.stderr


def test_misspelt_names_are_warnings_at_their_lines(fleet: Fleet, state: State) -> None:
    role = "    scopes: ['data:raed']\n    tools: ['crm_*', 'crm_serach']\n"
    path = written(state, f"version: 1\nroles:\n  a:\n{role}")

    result = fleet("check")

    assert result.exit_code == 0
    assert result.stdout.splitlines()[:2] == [
        f"{path}:4: warning: roles.a.scopes: no tool needs the scope data:raed",
        f"{path}:5: warning: roles.a.tools: crm_serach matches no tool",
    ]


def test_a_role_that_could_leak_private_data_is_an_error_at_its_line(state: State) -> None:
    text = "version: 1\nroles:\n  safe: {}\n  agent:\n    scopes: ['devops:read', 'devops:write']\n"
    path = written(state, text)
    comment = CatalogueTool(
        name="gh_comment", service="devops", scope="devops:write", touches=("public",), confirmed=False
    )  # fmt: skip

    verdict = check(path, (*read_catalogue(), comment))

    assert not verdict.good
    assert len(verdict.lines) == 1
    assert verdict.lines[0].startswith(f"{path}:4: error: roles.agent: reads what outsiders")


def test_roles_that_are_safe_apart_are_judged_together_in_the_key_that_has_both(
    state: State,
) -> None:
    text = (
        "version: 1\nroles:\n  reader: {scopes: ['devops:read']}\n  writer: {scopes: ['x:write']}\n"
    )
    path = written(state, text)
    comment = CatalogueTool(
        name="gh_comment", service="devops", scope="x:write", touches=("public",), confirmed=False
    )
    catalogue = (*read_catalogue(), comment)
    policy = Policy.model_validate(yaml.safe_load(text))
    keys = KeyFile(state.keys_file)
    create = partial(keys.create, tenant="acme", policy=policy)
    create(name="one", roles=["reader"])
    assert check(path, catalogue, keys).good
    past = datetime.now(UTC) - timedelta(seconds=1)
    create(name="old", roles=["reader", "writer"], expires=past)
    assert check(path, catalogue, keys).good
    key = create(name="both", roles=["reader", "writer"]).record

    verdict = check(path, catalogue, keys)

    assert not verdict.good
    expected = (
        f"{path}:3: error: roles.reader: key {key.id} (both) with the roles reader and writer reads"
    )
    assert verdict.lines[0].startswith(expected)


def test_a_role_is_told_how_far_it_reaches(fleet: Fleet, state: State) -> None:
    written(state, EXAMPLE.read_text("utf-8"))

    result = fleet("explain", "support", "crm_search", "--tenant", "shop")

    limits = [
        "role support: calls 60 a minute, 20 at once",
        "role support: 2000 calls a day",
        "tenant shop: calls 600 a minute, 100 at once",
        "tenant shop: 50000 calls a day",
    ]
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "anybody with role support of tenant shop may use crm_search.",
        "  rule          role support: scope data:read",
        "  rows          at most 50 an answer",
        "  repositories  *",
        "  namespaces    *",
        "  databases     none",
        "  masks         contact.email, phone",
        f"  limits        {'; '.join(limits)}",
        "  approval      none",
    ]


def test_a_refusal_names_its_rule_and_ends_with_status_one(fleet: Fleet, state: State) -> None:
    written(state, EXAMPLE.read_text("utf-8"))

    result = fleet("explain", "support", "db_query")

    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "anybody with role support of tenant demo may not use db_query.",
        "  rule          role support does not name db_query",
    ]


@pytest.mark.parametrize("by", ["id", "name"])
def test_a_key_is_asked_about_by_id_or_by_name(fleet: Fleet, state: State, by: str) -> None:
    record = KeyFile(state.keys_file).create(name="laptop", roles=["viewer"], tenant="acme").record

    result = fleet("explain", record.id if by == "id" else "laptop", "crm_upsert")

    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        f"key {record.id} (laptop) of tenant acme may not use crm_upsert.",
        "  rule          needs scope data:write",
    ]


def test_a_key_that_opens_nothing_is_not_explained(fleet: Fleet, state: State) -> None:
    keys = KeyFile(state.keys_file)
    past = datetime.now(UTC) - timedelta(days=1)
    keys.create(name="old", roles=["viewer"], tenant="demo", expires=past)

    assert "is revoked or expired" in fleet("explain", "old", "crm_get").stderr


@pytest.mark.parametrize(
    ("who", "tool", "said"),
    [
        ("emperor", "crm_get", "'emperor' is no role and no key\nRoles: viewer, "),
        ("twins", "crm_get", "Several keys are named 'twins'\nIds: "),
        ("viewer", "crm_gte", "There is no tool 'crm_gte'\nTools: crm_get"),
    ],
)
def test_a_name_that_nobody_has_is_a_sentence(
    fleet: Fleet, state: State, who: str, tool: str, said: str
) -> None:
    for _ in range(2):
        KeyFile(state.keys_file).create(name="twins", roles=["viewer"], tenant="demo")

    result = fleet("explain", who, tool)

    assert result.exit_code == 1
    assert result.stderr.startswith(said)


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ({"confirm": "human"}, "a person"),
        ({"confirm": "human", "second_person": True}, "a person other than the caller"),
        ({"confirm": "two_step"}, "a second call with a token"),
        ({"confirm": "none"}, "none"),
    ],
)
def test_the_approval_that_a_call_needs_is_told(rule: dict[str, object], told: str) -> None:
    policy = Policy.model_validate(
        {
            "version": 1,
            "roles": {"r": {"scopes": ["data:write"], "limits": {"tools": {"crm_*": RATE}}}},
            "approvals": [{"tools": ["crm_*"], **rule}],
        }
    )

    verdict = explain(policy, principal("r"), "crm_upsert", read_catalogue())

    assert verdict.lines[-1] == f"  approval      {told}"
    assert verdict.lines[-2] == "  limits        role r: crm_* 10 a minute, 2 at once"


RATE = {"per_minute": 10, "burst": 2}


def test_a_new_key_gets_the_roles_of_the_projects_policy(state: State) -> None:
    written(state, "version: 1\nroles:\n  auditor: {}\n")

    def create(role: str) -> Result:
        words = ["--project", str(state.project), "key", "create", "x", "--role", role]
        return CliRunner().invoke(main, words)

    assert create("auditor").exit_code == 0
    assert "Roles are: auditor" in create("viewer").stderr
