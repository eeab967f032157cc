"""From the policy to buckets: which limits and quotas one call of one caller must fit into.

Of the limits that a caller's roles state, the most generous holds; a role that states none says nothing. What a
tenant's rules state is for all its callers together. Lists, discovery and everything else that runs nothing have a
bucket of their own, ten times as large as the one for calls: a client of the handshake era spends five such requests
before its first call, and one that lists too often can still work.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import ceil
from urllib.parse import quote

from fleet_common.auth import Principal
from fleet_common.auth.internal import ISSUER
from fleet_common.errors import RateLimited
from fleet_common.health import Health
from fleet_common.limits.buckets import Bucket, Plan, Verdict
from fleet_common.limits.limiter import Limiter
from fleet_common.limits.replicas import Replicas
from fleet_common.metrics import Metrics
from fleet_common.policy import Limit, Policy, PolicyFile, Role, TenantRules
from fleet_common.policy.decision import roles_of
from fleet_common.redis import Redis

CALLS = frozenset({"tools/call", "resources/read", "prompts/get", "completion/complete"})
"""Methods that cost a call; all others cost a list."""

_LISTS_FOR_A_CALL = 10
_CALLERS_KEPT = 4096
_USED_UP = {
    "calls": "your calls are used up for now",
    "lists": "your lists are used up for now",
    "tool": "your calls of this tool are used up for now",
    "day": "your calls of today (UTC) are used up",
    "tenant-calls": "your tenant's calls are used up for now",
    "tenant-lists": "your tenant's lists are used up for now",
    "tenant-tool": "your tenant's calls of this tool are used up for now",
    "tenant-day": "your tenant's calls of today (UTC) are used up",
}


class CallLimits:
    """Takes each call out of the buckets of its caller and tenant."""

    def __init__(
        self,
        policy: PolicyFile,
        limiter: Limiter,
        metrics: Metrics,
        *,
        counts_internal: bool = False,
    ) -> None:
        self._policy = policy
        self._counts_internal = counts_internal
        self._limiter = limiter
        self._limited = metrics.counter(
            "mcp_limited_total", "Calls turned away by a rate limit or a quota.", "policy"
        )
        self._built_for: Policy | None = None
        self._allowances: dict[Principal, Allowance] = {}

    @classmethod
    def create(
        cls,
        service: str,
        policy: PolicyFile,
        redis: Redis | None,
        *,
        replicas: int,
        metrics: Metrics,
        health: Health,
    ) -> CallLimits:
        """Return the limits of one process of `service`, of which `replicas` are assumed to run."""
        counted = Replicas(redis, service, assumed=replicas)
        limiter = Limiter(redis, counted, metrics=metrics, health=health)
        return cls(policy, limiter, metrics, counts_internal=f"fleet-{service}" == ISSUER)

    def running(self) -> AbstractAsyncContextManager[None]:
        """Decide together with the other replicas while the block runs."""
        return self._limiter.running()

    def allowance(self, principal: Principal) -> Allowance:
        """Return what `principal` may use.

        What comes under an internal token has been counted by the gateway, which alone makes them; the gateway
        itself counts what services call back through it.
        """
        if principal.kind == "internal" and not self._counts_internal:
            return _UNCOUNTED
        policy = self._policy.current
        if policy is not self._built_for or len(self._allowances) >= _CALLERS_KEPT:
            self._built_for, self._allowances = policy, {}
        known = self._allowances.get(principal)
        if known is None:
            known = self._allowances[principal] = Allowance.of(policy, principal)
        return known

    async def spend(self, principal: Principal, method: str, name: str) -> Verdict | None:
        """Take one call of `method` (and `name`, if it calls a tool), as `take` does."""
        return await self.take(self.allowance(principal).plan(method, name))

    async def spend_inside(self, principal: Principal, outer: str, inner: str) -> None:
        """Take the call of a tool that came inside the call of another, which was counted already.

        Raises:
            RateLimited: the inner tool's own limit is used up.
        """
        allowance = self.allowance(principal)
        counted = allowance.plan("tools/call", outer)
        plan = allowance.plan("tools/call", inner)
        await self.take([bucket for bucket in plan if bucket not in counted])

    async def take(self, plan: Plan) -> Verdict | None:
        """Take one call out of the buckets of `plan`; return what decided, None when it has none.

        Raises:
            RateLimited: a limit or quota is used up; nothing was taken from the others.
        """
        if not plan:
            return None
        verdict = await self._limiter.decide(plan)
        if verdict.is_allowed:
            return verdict
        policy = verdict.bucket.policy
        self._limited.labels(policy=policy).inc()
        raise RateLimited(_USED_UP[policy], retry_after_s=ceil(verdict.wait_s * 1000) / 1000)


@dataclass(frozen=True, slots=True)
class Allowance:
    """The buckets of one caller, its tenant's among them.

    Attributes:
        calls: for what runs something.
        lists: for everything else.
        tools: for calls of the tools that a glob names.
    """

    calls: Plan
    lists: Plan
    tools: Sequence[tuple[str, Bucket]]

    @classmethod
    def of(cls, policy: Policy, principal: Principal) -> Allowance:
        """Return what `policy` allows `principal`."""
        roles = tuple(roles_of(policy, principal).values())
        tenant = policy.tenants.get(principal.tenant)
        own = _Holder("", f"{quote(principal.tenant, '')}:{quote(principal.subject, '')}", roles)
        shared = _Holder("tenant-", quote(principal.tenant, ""), (tenant,) if tenant else ())
        return cls(
            calls=(*own.calls(), *shared.calls()),
            lists=(*own.lists(), *shared.lists()),
            tools=(*own.tools(), *shared.tools()),
        )

    @property
    def is_unlimited(self) -> bool:
        """Whether nothing of this caller is counted."""
        return not (self.calls or self.lists or self.tools)

    def plan(self, method: str, name: str) -> Plan:
        """Return the buckets that one call of `method` (and `name`, if it calls a tool) is taken out of."""
        if method not in CALLS:
            return self.lists
        if method != "tools/call" or not self.tools:
            return self.calls
        return (*self.calls, *(b for glob, b in self.tools if fnmatchcase(name, glob)))


_UNCOUNTED = Allowance((), (), ())


@dataclass(frozen=True, slots=True)
class _Holder:
    """Whoever a limit is for, and all rules that state one."""

    prefix: str
    name: str
    rules: Sequence[Role | TenantRules]

    def calls(self) -> Iterator[Bucket]:
        if limit := self._rate():
            yield self._bucket("calls", limit)
        days = [rule.quotas.calls_per_day for rule in self.rules]
        if stated := [calls for calls in days if calls is not None]:
            policy = f"{self.prefix}day"
            yield Bucket.daily(self._key(policy), policy, calls=max(stated))

    def lists(self) -> Iterator[Bucket]:
        if limit := self._rate():
            yield self._bucket("lists", limit, times=_LISTS_FOR_A_CALL)

    def tools(self) -> Iterator[tuple[str, Bucket]]:
        by_glob: dict[str, list[Limit]] = {}
        for rule in self.rules:
            for glob, limit in rule.limits.tools.items():
                by_glob.setdefault(glob, []).append(limit)
        for glob, limits in by_glob.items():
            yield glob, self._bucket("tool", _most_generous(limits), quote(glob, ""))

    def _rate(self) -> Limit | None:
        stated = [rule.limits.calls for rule in self.rules if rule.limits.calls]
        return _most_generous(stated) if stated else None

    def _bucket(self, policy: str, limit: Limit, *more: str, times: int = 1) -> Bucket:
        policy = f"{self.prefix}{policy}"
        return Bucket.rate(
            self._key(policy, *more),
            policy,
            per_minute=limit.per_minute * times,
            burst=limit.burst * times,
        )

    def _key(self, *parts: str) -> str:
        return ":".join(("fleet:limit", *parts, self.name))


def _most_generous(limits: Sequence[Limit]) -> Limit:
    return max(limits, key=lambda limit: (limit.per_minute, limit.burst))
