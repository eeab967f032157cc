"""The decision: one pure function, asked for every call and to filter every list, so that listed is callable."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from fleet_common.auth.principal import Principal
from fleet_common.policy.models import Policy, Role

REGISTRY_ROLE = "fleet:registry"
"""What the gateway's registry is: it sees every name and may call nothing. No policy file can name it."""

APPROVE_SCOPE = "fleet:approve"
"""What a person needs to approve calls. No agent's key or client is given it: it could approve its own calls."""


@dataclass(frozen=True, slots=True)
class Target:
    """What somebody wants to use.

    Attributes:
        kind: the MCP primitive.
        name: name of the tool or prompt; URI of the resource, or of the template that it is an instance of.
        scope: the scope it needs; None means any verified caller.
    """

    kind: Literal["tool", "resource", "prompt"]
    name: str
    scope: str | None


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer, with the rule that gave it, for the audit line and for `explain`.

    Attributes:
        roles: the caller's roles that allow the target; they say how much of it and where.
    """

    allowed: bool
    rule: str
    roles: tuple[Role, ...] = ()


def decide(policy: Policy, principal: Principal | None, target: Target) -> Decision:
    """Return whether `principal` may use `target` under `policy`, and why."""
    if principal is None:
        return Decision(False, "no verified caller")
    roles = roles_of(policy, principal)
    denials = ((name, first_match(role.deny, target.name)) for name, role in roles.items())
    if denial := next((each for each in denials if each[1]), None):
        return Decision(False, f"role {denial[0]} denies {denial[1]}")
    return _granted(roles, principal, target)


def _granted(roles: dict[str, Role], principal: Principal, target: Target) -> Decision:
    if target.scope is None:
        return Decision(True, "open to every verified caller", tuple(roles.values()))
    if principal.scopes is not None and target.scope not in principal.scopes:
        return Decision(False, f"the credential lacks scope {target.scope}")
    granting = {name: role for name, role in roles.items() if target.scope in role.scopes}
    allowing = {
        name: role
        for name, role in granting.items()
        if first_match(_globs(role, target), target.name)
    }
    if allowing:
        rule = f"role {', '.join(allowing)}: scope {target.scope}"
        return Decision(True, rule, tuple(allowing.values()))
    if granting:
        return Decision(False, f"role {', '.join(granting)} does not name {target.name}")
    return Decision(False, f"needs scope {target.scope}")


def first_match(globs: Iterable[str], name: str) -> str | None:
    """Return the first glob that matches `name`, upper and lower case being different; None if none does."""
    return next((glob for glob in globs if glob == "*" or fnmatchcase(name, glob)), None)


def roles_of(policy: Policy, principal: Principal) -> dict[str, Role]:
    """Return the roles by name that count for `principal` in its tenant."""
    return {
        name: role
        for name in sorted(principal.roles)
        if (role := policy.roles.get(name)) and first_match(role.tenants, principal.tenant)
    }


def _globs(role: Role, target: Target) -> tuple[str, ...]:
    match target.kind:
        case "tool":
            return role.tools
        case "prompt":
            return role.prompts
        case "resource":
            return role.resources
