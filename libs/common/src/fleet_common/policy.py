"""Who may do what: one pure function, asked for every call and to filter every list. Default deny."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from fleet_common.auth.principal import Principal

_READ = frozenset({"data:read", "devops:read", "aiml:read"})

ROLES: dict[str, frozenset[str]] = {
    "viewer": _READ,
    "analyst": _READ | {"aiml:write"},
    "sales": frozenset({"data:read", "data:write", "data:send", "aiml:read"}),
    "operator": _READ | {"devops:write", "devops:deploy", "aiml:write"},
    "admin": _READ
    | {"data:write", "data:send", "data:admin", "devops:write", "devops:deploy", "devops:admin"}
    | {"aiml:write", "aiml:admin"},
}
"""Scopes by role. A role that is not here grants nothing."""


@dataclass(frozen=True, slots=True)
class Target:
    """What somebody wants to use.

    Attributes:
        kind: the MCP primitive.
        name: name of the tool or prompt, or the URI of the resource.
        scope: the scope it needs; None means any verified caller.
    """

    kind: Literal["tool", "resource", "prompt"]
    name: str
    scope: str | None


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer, with the rule that gave it, for the audit line and for `explain`."""

    allowed: bool
    rule: str


def decide(principal: Principal | None, target: Target) -> Decision:
    """Return whether `principal` may use `target`, and why."""
    if principal is None:
        return Decision(False, "no verified caller")
    if target.scope is None:
        return Decision(True, "open to every verified caller")
    if target.scope in principal.scopes:
        return Decision(True, f"scope {target.scope}")
    return Decision(False, f"needs scope {target.scope}")


def scopes_of(roles: Iterable[str]) -> frozenset[str]:
    """Return the union of what `roles` grant."""
    return frozenset[str]().union(*(ROLES.get(role, frozenset()) for role in roles))
