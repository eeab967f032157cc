from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fleet_common.policy import ROLES, Target, decide, scopes_of
from fleet_common.testing import admin, principal, viewer

SCOPES = sorted(ROLES["admin"])


def test_nobody_may_do_nothing() -> None:
    assert not decide(None, Target("tool", "fleet_whoami", None)).allowed


def test_a_tool_without_scope_is_open_to_every_verified_caller() -> None:
    assert decide(principal(), Target("tool", "fleet_whoami", None)).allowed


def test_a_viewer_reads_and_never_writes() -> None:
    assert decide(viewer(), Target("tool", "crm_search", "data:read")).allowed
    refusal = decide(viewer(), Target("tool", "crm_upsert", "data:write"))
    assert (refusal.allowed, refusal.rule) == (False, "needs scope data:write")


def test_an_unknown_role_grants_nothing() -> None:
    assert scopes_of(["root", "Admin"]) == frozenset()


@given(roles=st.sets(st.sampled_from([*ROLES, "nobody"])), scope=st.sampled_from(SCOPES))
def test_a_caller_is_allowed_exactly_what_one_of_the_roles_grants(
    roles: set[str], scope: str
) -> None:
    granted = any(scope in ROLES.get(role, frozenset()) for role in roles)
    assert decide(principal(*roles), Target("tool", "t", scope)).allowed is granted


def test_admin_has_every_scope_that_any_role_has() -> None:
    assert admin().scopes == frozenset().union(*ROLES.values())
