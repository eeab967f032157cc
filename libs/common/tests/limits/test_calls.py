"""From the policy to buckets."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet_common.auth import Principal
from fleet_common.errors import RateLimited
from fleet_common.health import Health
from fleet_common.limits import CallLimits
from fleet_common.metrics import Metrics
from fleet_common.policy import Policy, PolicyFile
from fleet_common.testing import principal

SLOW = {"per_minute": 1, "burst": 1}
FAST = {"per_minute": 1, "burst": 3}


class Desk:
    """The limits of one process under a policy that can be changed."""

    def __init__(self, service: str = "data", **policy: Any) -> None:
        self.policy = PolicyFile.fixed(Policy.model_validate({"version": 1, **policy}))
        self.metrics = Metrics(service)
        self.limits = CallLimits.create(
            service, self.policy, None, replicas=1, metrics=self.metrics, health=Health()
        )

    async def spent(self, who: Principal, name: str = "crm_search", calls: int = 5) -> int:
        """Return how many of some calls were allowed."""
        return [await self.is_allowed(who, name) for _ in range(calls)].count(True)

    async def is_allowed(
        self, who: Principal, name: str = "crm_search", method: str = "tools/call"
    ) -> bool:
        try:
            await self.limits.spend(who, method, name)
        except RateLimited:
            return False
        return True


def role(**limits: Any) -> dict[str, Any]:
    return {"scopes": ["data:read"], "limits": limits}


async def test_without_limits_in_the_policy_nobody_is_counted() -> None:
    desk = Desk(roles={"viewer": {"scopes": ["data:read"]}})
    assert desk.limits.allowance(principal("viewer")).is_unlimited
    assert await desk.limits.spend(principal("viewer"), "tools/call", "crm_search") is None


async def test_of_several_roles_the_most_generous_limit_holds() -> None:
    desk = Desk(roles={"one": role(calls=SLOW), "two": role(calls=FAST), "three": role()})
    assert await desk.spent(principal("one", "two", "three")) == 3
    assert await desk.spent(principal("one", "three", subject="key:other")) == 1


async def test_a_role_that_does_not_count_in_the_tenant_has_no_limits_either() -> None:
    desk = Desk(roles={"one": role(calls=SLOW), "two": {**role(calls=FAST), "tenants": ["acme"]}})
    assert await desk.spent(principal("one", "two", tenant="demo")) == 1
    assert await desk.spent(principal("one", "two", tenant="acme")) == 3


async def test_every_glob_that_names_a_tool_holds_and_tools_of_a_glob_share() -> None:
    desk = Desk(roles={"one": role(tools={"crm_*": FAST, "*_delete": SLOW})})
    who = principal("one")
    assert await desk.spent(who, "crm_delete", 2) == 1
    assert await desk.spent(who, "crm_search") == 2
    assert await desk.spent(who, "gh_repo_get", 20) == 20


async def test_a_tenants_callers_share_its_limit_and_each_keeps_its_own() -> None:
    desk = Desk(
        roles={"one": role(calls={"per_minute": 1, "burst": 2})},
        tenants={"demo": {"limits": {"calls": FAST}}},
    )
    spent = [await desk.spent(principal("one", subject=f"key:{n}")) for n in range(3)]
    assert spent == [2, 1, 0]
    assert await desk.spent(principal("one", tenant="acme")) == 2


async def test_quotas_are_counted_per_caller_and_per_tenant() -> None:
    desk = Desk(
        roles={"one": {"scopes": ["data:read"], "quotas": {"calls_per_day": 2}}},
        tenants={"demo": {"quotas": {"calls_per_day": 3}}},
    )
    spent = [await desk.spent(principal("one", subject=f"key:{n}")) for n in range(3)]
    assert spent == [2, 1, 0]


async def test_what_runs_nothing_costs_a_list_and_not_a_call() -> None:
    desk = Desk(roles={"one": role(calls=SLOW)})
    who = principal("one")
    assert await desk.is_allowed(who)
    assert not await desk.is_allowed(who, "crm://schema", "resources/read")
    lists = ["tools/list", "server/discover", "initialize", "ping", "", "no/such", "tasks/get"]
    assert [await desk.is_allowed(who, "", each) for each in lists] == [True] * len(lists)
    assert [await desk.is_allowed(who, "", "tools/list") for _ in range(4)].count(True) == 3


@pytest.mark.blocking  # reads its file
async def test_a_changed_policy_holds_from_the_next_call(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    desk = Desk(roles={"one": role(calls=SLOW)})
    desk.policy.path = path
    assert await desk.spent(principal("one")) == 1
    path.write_text(json.dumps({"version": 1, "roles": {"one": role()}}))
    desk.policy.load()
    assert await desk.spent(principal("one")) == 5


async def test_the_refusal_says_which_limit_and_is_counted_under_it() -> None:
    desk = Desk(roles={"one": role(calls=FAST, tools={"crm_*": SLOW})})
    await desk.spent(principal("one"), calls=1)
    with pytest.raises(RateLimited, match=r"of this tool .* \(retry after [0-9.]+ s\)$") as refused:
        await desk.limits.spend(principal("one"), "tools/call", "crm_search")
    assert refused.value.retry_after_s == pytest.approx(60, abs=1)
    assert desk.metrics.registry.get_sample_value(
        "mcp_limited_total", {"service": "data", "policy": "tool"}
    )


async def test_an_internal_token_was_counted_by_the_gateway_except_at_the_gateway() -> None:
    who = replace(principal("one"), kind="internal")
    assert await Desk("data", roles={"one": role(calls=SLOW)}).spent(who) == 5
    assert await Desk("gateway", roles={"one": role(calls=SLOW)}).spent(who) == 1


NAMES = st.text("a:%/*", min_size=1, max_size=4)


@given(callers=st.lists(st.tuples(NAMES, NAMES), min_size=2, max_size=6, unique=True))
async def test_no_caller_ever_spends_from_anothers_bucket(callers: list[tuple[str, str]]) -> None:
    desk = Desk(roles={"one": role(calls=SLOW, tools={"*": SLOW})})
    for tenant, subject in callers:
        assert await desk.is_allowed(principal("one", tenant=tenant, subject=subject))
