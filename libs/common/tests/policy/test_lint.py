from __future__ import annotations

from typing import Any

import pytest

from fleet_common.auth import Principal
from fleet_common.policy import Policy
from fleet_common.policy.catalogue import CatalogueTool, DataKind
from fleet_common.policy.lint import Finding, lint


def tool(name: str, scope: str, *touches: DataKind, confirmed: bool = False) -> CatalogueTool:
    return CatalogueTool(name=name, service="x", scope=scope, touches=touches, confirmed=confirmed)


ISSUES = tool("gh_issue_get", "devops:read", "untrusted")
CRM = tool("crm_search", "data:read", "private")
COMMENT = tool("gh_comment", "devops:write", "public")
CATALOGUE = (ISSUES, CRM, COMMENT)
EVERYTHING = ["devops:read", "data:read", "devops:write"]


def errors(
    role: dict[str, Any],
    *approvals: dict[str, Any],
    catalogue: tuple[CatalogueTool, ...] = CATALOGUE,
) -> list[Finding]:
    rules = {"version": 1, "roles": {"agent": role}, "approvals": list(approvals)}
    found = lint(Policy.model_validate(rules), catalogue)
    return [each for each in found if each.level == "error"]


def test_reading_untrusted_and_private_text_and_writing_in_public_is_an_error() -> None:
    (finding,) = errors({"scopes": EVERYTHING})
    assert finding.path == ("roles", "agent")
    for name in ("gh_issue_get", "crm_search", "gh_comment"):
        assert name in finding.what


@pytest.mark.parametrize("left_out", EVERYTHING)
def test_any_two_of_the_three_are_fine(left_out: str) -> None:
    assert errors({"scopes": [scope for scope in EVERYTHING if scope != left_out]}) == []


@pytest.mark.parametrize("glob", ["gh_issue_*", "crm_*", "gh_comment"])
def test_denying_one_of_the_three_is_enough(glob: str) -> None:
    assert errors({"scopes": EVERYTHING, "deny": [glob]}) == []


def test_a_person_who_looks_at_each_write_is_enough() -> None:
    assert errors({"scopes": EVERYTHING}, {"tools": ["gh_*"], "confirm": "human"}) == []
    watched = tool("gh_comment", "devops:write", "public", confirmed=True)
    assert errors({"scopes": EVERYTHING}, catalogue=(ISSUES, CRM, watched)) == []


@pytest.mark.parametrize("confirm", ["two_step", "none"])
def test_a_model_that_confirms_itself_is_not(confirm: str) -> None:
    watched = tool("gh_comment", "devops:write", "public", confirmed=True)
    rule = {"tools": ["gh_*"], "confirm": confirm}
    assert errors({"scopes": EVERYTHING}, rule, catalogue=(ISSUES, CRM, watched))


def test_one_public_write_without_a_person_is_enough_for_the_error() -> None:
    quiet = tool("ci_run", "devops:write", "public")
    rule = {"tools": ["gh_*"], "confirm": "human"}
    (finding,) = errors({"scopes": EVERYTHING}, rule, catalogue=(*CATALOGUE, quiet))
    assert "without an approval (ci_run)" in finding.what


def test_one_tool_can_be_all_three() -> None:
    everything = tool("mail_reply", "data:send", "untrusted", "private", "public")
    assert errors({"scopes": ["data:send"]}, catalogue=(everything,))


def test_a_role_of_one_tenant_is_judged_as_well() -> None:
    assert errors({"scopes": EVERYTHING, "tenants": ["acme"]})


@pytest.mark.parametrize(
    ("roles", "tenant", "is_judged"),
    [
        (["reader", "writer"], "acme", True),
        (["reader", "writer", "auditor"], "acme", True),
        (["reader", "writer", "guard"], "acme", False),  # its denial holds for all of them
        (["reader", "auditor"], "acme", False),
        (["writer"], "acme", False),
        (["reader", "writer"], "shop", False),  # where `writer` does not count
    ],
)
def test_a_key_with_several_roles_is_judged_by_all_that_count_for_it(
    roles: list[str], tenant: str, is_judged: bool
) -> None:
    policy = Policy.model_validate(
        {
            "version": 1,
            "roles": {
                "reader": {"scopes": ["devops:read", "data:read"]},
                "writer": {"scopes": ["devops:write"], "tenants": ["acme"]},
                "auditor": {"scopes": ["data:read"]},
                "guard": {"deny": ["gh_comment"]},
            },
        }
    )
    caller = Principal(subject="key:1", tenant=tenant, roles=frozenset(roles), kind="key")
    found = [each for each in lint(policy, CATALOGUE, [caller]) if each.level == "error"]
    assert bool(found) is is_judged
    if found:
        assert found[0].what.startswith(f"key:1 with the roles {' and '.join(sorted(roles))} reads")


def test_a_long_list_of_tools_is_cut() -> None:
    many = [tool(f"gh_{n}_get", "devops:read", "untrusted") for n in range(5)]
    (finding,) = errors({"scopes": EVERYTHING}, catalogue=(*many, CRM, COMMENT))
    assert "(gh_0_get, gh_1_get, gh_2_get and 2 more)" in finding.what


def test_names_that_nothing_answers_to_are_warnings() -> None:
    rate = {"per_minute": 1, "burst": 1}
    role = {
        "scopes": ["data:raed", "data:admin"],
        "tools": ["crm_*", "crn_*"],
        "limits": {"tools": {"gh_pull": rate}},
    }
    rules = {"version": 1, "roles": {"a": role}, "approvals": [{"tools": ["x"], "confirm": "none"}]}
    found = lint(Policy.model_validate(rules), CATALOGUE)
    assert {(each.level, each.path, each.what) for each in found} == {
        ("warning", ("roles", "a", "scopes"), "no tool needs the scope data:raed"),
        ("warning", ("roles", "a", "tools"), "crn_* matches no tool"),
        ("warning", ("roles", "a", "limits", "tools"), "gh_pull matches no tool"),
        ("warning", ("approvals", 0, "tools"), "x matches no tool"),
    }
