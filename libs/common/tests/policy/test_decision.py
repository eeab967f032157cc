from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_common.policy import BUILT_IN, Policy, Target, decide
from fleet_common.testing import admin, principal, viewer

SCOPES = sorted(BUILT_IN.roles["admin"].scopes)
SEARCH = Target("tool", "crm_search", "data:read")


def policy(**roles: dict[str, Any]) -> Policy:
    return Policy.model_validate({"version": 1, "roles": roles})


def test_nobody_may_do_nothing() -> None:
    assert not decide(BUILT_IN, None, Target("tool", "fleet_whoami", None)).allowed


def test_a_tool_without_scope_is_open_to_every_verified_caller() -> None:
    assert decide(BUILT_IN, principal(), Target("tool", "fleet_whoami", None)).allowed


def test_a_viewer_reads_and_never_writes() -> None:
    assert decide(BUILT_IN, viewer(), SEARCH).allowed
    refusal = decide(BUILT_IN, viewer(), Target("tool", "crm_upsert", "data:write"))
    assert (refusal.allowed, refusal.rule) == (False, "needs scope data:write")


def test_a_role_that_the_file_does_not_have_grants_nothing() -> None:
    refusal = decide(policy(viewer={"scopes": ["data:read"]}), principal("admin"), SEARCH)
    assert (refusal.allowed, refusal.rule) == (False, "needs scope data:read")


@given(roles=st.sets(st.sampled_from([*BUILT_IN.roles, "nobody"])), scope=st.sampled_from(SCOPES))
def test_a_caller_is_allowed_exactly_what_one_of_the_roles_grants(
    roles: set[str], scope: str
) -> None:
    granted = any(scope in BUILT_IN.roles[role].scopes for role in roles & set(BUILT_IN.roles))
    assert decide(BUILT_IN, principal(*roles), Target("tool", "t", scope)).allowed is granted


def test_admin_has_every_scope_of_any_built_in_role_but_the_one_to_approve() -> None:
    everything = frozenset[str]().union(*(role.scopes for role in BUILT_IN.roles.values()))
    assert BUILT_IN.roles["admin"].scopes == everything - {"fleet:approve"}
    assert decide(BUILT_IN, admin(), Target("tool", "crm_purge", "data:admin")).allowed


def test_a_role_is_held_to_the_tools_it_names() -> None:
    rules = policy(search={"scopes": ["data:read"], "tools": ["crm_s*"]})
    assert decide(rules, principal("search"), SEARCH).allowed
    refusal = decide(rules, principal("search"), Target("tool", "db_query", "data:read"))
    assert (refusal.allowed, refusal.rule) == (False, "role search does not name db_query")


def test_scope_and_tool_must_come_from_the_same_role() -> None:
    rules = policy(
        reader={"scopes": ["data:read"], "tools": ["db_*"]},
        searcher={"scopes": ["aiml:read"], "tools": ["crm_*"]},
    )
    assert not decide(rules, principal("reader", "searcher"), SEARCH).allowed


def test_a_denial_of_one_role_beats_the_permission_of_another() -> None:
    rules = policy(all={"scopes": ["data:read"]}, careful={"deny": ["crm_*"]})
    assert decide(rules, principal("all"), SEARCH).allowed
    refusal = decide(rules, principal("all", "careful"), SEARCH)
    assert (refusal.allowed, refusal.rule) == (False, "role careful denies crm_*")


def test_a_denial_also_holds_for_what_is_open_to_everybody() -> None:
    rules = policy(blind={"deny": ["fleet_*"]})
    assert not decide(rules, principal("blind"), Target("tool", "fleet_whoami", None)).allowed


def test_a_role_counts_only_in_its_tenants() -> None:
    rules = policy(acme={"scopes": ["data:read"], "tenants": ["acme", "acme-*"]})
    allowed = [
        tenant
        for tenant in ("acme", "acme-eu", "demo")
        if decide(rules, principal("acme", tenant=tenant), SEARCH).allowed
    ]
    assert allowed == ["acme", "acme-eu"]


@pytest.mark.parametrize(
    ("bound", "allowed"), [(None, True), ({"data:read"}, True), ({"aiml:read"}, False), ((), False)]
)
def test_a_credential_narrows_what_its_roles_grant(bound: set[str] | None, allowed: bool) -> None:
    caller = replace(viewer(), scopes=None if bound is None else frozenset(bound))
    assert decide(BUILT_IN, caller, SEARCH).allowed is allowed


def test_a_credential_never_adds_to_what_its_roles_grant() -> None:
    caller = replace(viewer(), scopes=frozenset({"data:write"}))
    assert not decide(BUILT_IN, caller, Target("tool", "crm_upsert", "data:write")).allowed


def test_prompts_and_resources_have_globs_of_their_own() -> None:
    rules = policy(r={"scopes": ["data:read"], "prompts": ["pipe*"], "resources": ["crm://*"]})
    asked = [
        Target("prompt", "pipeline_review", "data:read"),
        Target("prompt", "other", "data:read"),
        Target("resource", "crm://schema/{object}", "data:read"),
        Target("resource", "file://x", "data:read"),
        Target("tool", "anything", "data:read"),
    ]
    told = [decide(rules, principal("r"), target).allowed for target in asked]
    assert told == [True, False, True, False, True]


def test_the_decision_carries_only_the_roles_that_allow_it() -> None:
    rules = policy(
        masked={"scopes": ["data:read"], "masks": ["email"]}, ops={"scopes": ["devops:read"]}
    )
    assert decide(rules, principal("masked", "ops"), SEARCH).roles == (rules.roles["masked"],)
