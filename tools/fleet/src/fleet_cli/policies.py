"""`fleet policy`: is the file right, and what does it let somebody do.

Both judge tools by `catalogue.json`, which is made from the services' own declarations, so no service is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path

from fleet_cli.errors import BadInput
from fleet_common.approvals.rules import confirmation_for
from fleet_common.auth.keys import KeyFile
from fleet_common.auth.principal import Principal
from fleet_common.policy import (
    Decision,
    Grant,
    Limit,
    Policy,
    PolicyFile,
    Role,
    Target,
    TenantRules,
    decide,
)
from fleet_common.policy.catalogue import CATALOGUE, CatalogueTool
from fleet_common.policy.decision import first_match, roles_of
from fleet_common.policy.lint import lint
from fleet_common.policy.source import line_of

BUILT_IN_NAME = "the built-in policy"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `check` or `explain` found: lines to print, and whether it is good."""

    good: bool
    lines: tuple[str, ...]


def read_catalogue() -> tuple[CatalogueTool, ...]:
    """Return every tool of the fleet as this version of the command knows it."""
    return CATALOGUE.validate_json((files(__package__) / "catalogue.json").read_bytes())


def read_policy(path: Path | None) -> Policy:
    """Return the policy of a file, or the built-in one without.

    Raises:
        BadPolicy: it cannot be used; the text names each line.
    """
    return PolicyFile(path).load()


def check(
    path: Path | None, catalogue: tuple[CatalogueTool, ...], keys: KeyFile | None = None
) -> Verdict:
    """Return what is wrong or doubtful about a policy file, and about the roles that keys hold together under it.

    Raises:
        BadPolicy: it is no policy at all; the text names each line.
    """
    policy = read_policy(path)
    text = path.read_text("utf-8") if path else ""
    name = str(path) if path else BUILT_IN_NAME
    found = lint(policy, catalogue, _holders(keys) if keys else ())
    lines = [
        f"{name}:{line_of(text, f.path) if path else 1}: {f.level}: {'.'.join(map(str, f.path))}: {f.what}"
        for f in found
    ]
    good = all(f.level != "error" for f in found)
    if good:
        lines.append(f"{name}: {len(policy.roles)} roles, {len(policy.approvals)} approval rules.")
    return Verdict(good, tuple(lines))


def _holders(keys: KeyFile) -> Iterator[Principal]:
    now = datetime.now(UTC)
    for record in keys.list():
        if record.is_active(now):
            yield replace(record.principal(), subject=f"key {record.id} ({record.name})")


def whose(who: str, policy: Policy, keys: KeyFile, *, tenant: str) -> Principal:
    """Return the caller that `who` names: a role of the policy, in `tenant`, or a key by its id or name.

    Raises:
        BadInput: nobody is called that, or several keys are, or the key is closed.
    """
    if who in policy.roles:
        return Principal(
            subject=f"anybody with role {who}", tenant=tenant, roles=frozenset({who}), kind="key"
        )
    found = [record for record in keys.list() if who in {record.id, record.name}]
    if not found:
        raise BadInput(
            f"{who!r} is no role and no key", hint=f"Roles: {', '.join(policy.roles) or 'none'}"
        )
    if len(found) > 1:
        raise BadInput(
            f"Several keys are named {who!r}", hint=f"Ids: {', '.join(r.id for r in found)}"
        )
    if not found[0].is_active(datetime.now(UTC)):
        raise BadInput(f"The key {found[0].id} is revoked or expired: it may do nothing")
    return replace(found[0].principal(), subject=f"key {found[0].id} ({found[0].name})")


def explain(
    policy: Policy, principal: Principal, tool: str, catalogue: tuple[CatalogueTool, ...]
) -> Verdict:
    """Return whether the caller may use a tool, by which rule, how far, and how the call is confirmed.

    Raises:
        BadInput: there is no such tool.
    """
    known = [each for each in catalogue if each.name == tool]
    if not known:
        names = {each.name for each in catalogue}
        near = get_close_matches(tool, names) or sorted(names)
        raise BadInput(f"There is no tool {tool!r}", hint=f"Tools: {', '.join(near)}")
    # A tool that every service has may need another scope on each: one that lets the caller in is enough.
    decisions = [(decide(policy, principal, Target("tool", tool, at.scope)), at) for at in known]
    decision, found = next((each for each in decisions if each[0].allowed), decisions[0])
    told = "may" if decision.allowed else "may not"
    lines = [f"{principal.subject} of tenant {principal.tenant} {told} use {tool}."]
    facts = _facts(policy, principal, found, decision) if decision.allowed else {}
    facts = {"rule": decision.rule, **facts}
    lines += [f"  {name:<13} {value}" for name, value in facts.items()]
    return Verdict(decision.allowed, tuple(lines))


def _facts(
    policy: Policy, principal: Principal, tool: CatalogueTool, decision: Decision
) -> dict[str, str]:
    grant = Grant.of(principal, decision.roles)
    return {
        "rows": f"at most {grant.max_rows} an answer" if grant.max_rows else "no limit of its own",
        "repositories": ", ".join(grant.repositories) or "none",
        "namespaces": ", ".join(grant.namespaces) or "none",
        "databases": ", ".join(grant.databases) or "none",
        "masks": ", ".join(sorted(grant.masks)) or "none",
        "limits": "; ".join(_limits(policy, principal, tool.name)) or "none",
        "approval": _approval(policy, tool),
    }


def _limits(policy: Policy, principal: Principal, tool: str) -> Iterator[str]:
    roles = roles_of(policy, principal).items()
    holders: dict[str, Role | TenantRules] = {f"role {name}": role for name, role in roles}
    if tenant := policy.tenants.get(principal.tenant):
        holders[f"tenant {principal.tenant}"] = tenant
    for name, rules in holders.items():
        rates = {glob: at for glob, at in rules.limits.tools.items() if first_match([glob], tool)}
        if rules.limits.calls:
            rates["calls"] = rules.limits.calls
        yield from (f"{name}: {what} {_rate(limit)}" for what, limit in rates.items())
        if rules.quotas.calls_per_day:
            yield f"{name}: {rules.quotas.calls_per_day} calls a day"


def _rate(limit: Limit) -> str:
    return f"{limit.per_minute} a minute, {limit.burst} at once"


def _approval(policy: Policy, tool: CatalogueTool) -> str:
    need = confirmation_for(policy.approvals, tool.name, by_default=tool.confirmed)
    words = {"human": "a person", "two_step": "a second call with a token", "none": "none"}
    return words[need.confirm] + (" other than the caller" if need.second_person else "")
