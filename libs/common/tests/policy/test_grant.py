from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fleet_common.policy import Grant, Role
from fleet_common.testing import principal

CALLER = principal("any")


def grant(*roles: dict[str, Any]) -> Grant:
    return Grant.of(CALLER, [Role.model_validate(role) for role in roles])


def test_no_role_grants_nothing() -> None:
    nothing = grant()
    assert nothing.scopes == frozenset()
    assert not nothing.reaches_repository("acme/site")
    assert not nothing.reaches_namespace("default")


def test_of_several_roles_the_most_generous_holds() -> None:
    both = grant(
        {"scopes": ["data:read"], "max_rows": 10, "repositories": ["a/*"], "masks": ["email", "phone"]},
        {"scopes": ["data:write"], "max_rows": 50, "repositories": ["b/*"], "masks": ["email"]},
    )  # fmt: skip
    assert both.scopes == {"data:read", "data:write"}
    assert both.max_rows == 50
    assert both.repositories == ("a/*", "b/*")
    assert both.masks == {"email"}


def test_a_role_without_a_row_limit_lifts_that_of_another() -> None:
    assert grant({"max_rows": 10}, {}).max_rows is None


def test_rows_are_cut_to_the_limit_and_never_raised_to_it() -> None:
    limited = grant({"max_rows": 10})
    assert (limited.rows(3), limited.rows(200), grant({}).rows(200)) == (3, 10, 200)


def test_the_credential_bounds_the_scopes() -> None:
    bounded = replace(CALLER, scopes=frozenset({"data:read", "aiml:admin"}))
    role = Role(scopes=frozenset({"data:read", "data:write"}))
    assert Grant.of(bounded, [role]).scopes == {"data:read"}


@pytest.mark.parametrize(
    ("name", "reached"), [("acme/site", True), ("ACME/Site", True), ("acme-evil/site", False)]
)
def test_repositories_are_compared_as_github_does(name: str, reached: bool) -> None:
    assert grant({"repositories": ["Acme/*"]}).reaches_repository(name) is reached


def test_the_whole_cluster_needs_every_namespace() -> None:
    some, every = grant({"namespaces": ["shop-*"]}), grant({})
    assert (some.reaches_namespace("shop-eu"), some.reaches_namespace("kube-system")) == (
        True,
        False,
    )
    assert (some.reaches_namespace(None), every.reaches_namespace(None)) == (False, True)


def test_other_databases_are_out_of_reach_unless_a_role_names_them() -> None:
    named = grant({"databases": ["warehouse*"]}, {})
    assert (named.reaches_database("warehouse_eu"), named.reaches_database("hr")) == (True, False)
    assert not grant({}).reaches_database("warehouse")
