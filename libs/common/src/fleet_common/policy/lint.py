"""What a valid policy should still not say.

The error is the lethal trifecta (Willison, 2025): a role, or a key with several, that reads text outsiders wrote,
reads private data and writes where outsiders can see it. One sentence hidden in the text can then make a model carry
the data out, unless a person looks at each write. The warnings are names that nothing answers to, which are most often
misspelt.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from fleet_common.approvals.rules import confirmation_for
from fleet_common.auth.principal import Principal
from fleet_common.policy.catalogue import CatalogueTool, DataKind
from fleet_common.policy.decision import Target, decide, roles_of
from fleet_common.policy.models import Policy, Role
from fleet_common.policy.source import BUILT_IN

_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to know about a policy; `path` leads to it in the file."""

    level: Literal["error", "warning"]
    path: tuple[str | int, ...]
    what: str


def lint(
    policy: Policy, catalogue: Sequence[CatalogueTool], callers: Iterable[Principal] = ()
) -> list[Finding]:
    """Return what is wrong with `policy` (errors) and what looks misspelt (warnings).

    Each role is judged alone, in whichever tenant it counts. Which roles an issuer gives together nobody here knows.

    Args:
        policy: what is judged.
        catalogue: all tools of the fleet.
        callers: who is known to hold several roles, such as fleet keys: judged with all of them, in their own tenant.
    """
    found = list(_approvals(policy, catalogue))
    for name, role in policy.roles.items():
        usable = [tool for tool in catalogue if _allows(*_alone(name, role), tool)]
        found += _trifecta(policy, ("roles", name), usable)
        found += _unknown_scopes(name, role, catalogue)
        found += _unmatched(("roles", name, "tools"), role.tools, catalogue)
        found += _unmatched(("roles", name, "limits", "tools"), role.limits.tools, catalogue)
    for caller in callers:
        held = [*roles_of(policy, caller)]
        if len(held) > 1:
            usable = [tool for tool in catalogue if _allows(policy, caller, tool)]
            who = f"{caller.subject} with the roles {' and '.join(held)} "
            found += _trifecta(policy, ("roles", held[0]), usable, who)
    return found


def _trifecta(
    policy: Policy, path: tuple[str, ...], usable: Sequence[CatalogueTool], who: str = ""
) -> Iterator[Finding]:
    unwatched = [tool for tool in usable if not _waits_for_a_person(policy, tool)]
    reads = [_touching("untrusted", usable), _touching("private", usable)]
    writes = _touching("public", unwatched)
    if all(reads) and writes:
        what = (
            f"{who}reads what outsiders may have written ({_some(reads[0])}), reads private data ({_some(reads[1])}) "
            f"and writes in public without an approval ({_some(writes)}): a sentence hidden in the text could carry "
            "the data out. Add an approval rule with `confirm: human`, or deny one of the three"
        )
        yield Finding("error", path, what)


def _alone(name: str, role: Role) -> tuple[Policy, Principal]:
    anywhere = role.model_copy(update={"tenants": ("*",)})
    caller = Principal(subject="lint", tenant="any", roles=frozenset({name}), kind="key")
    return Policy(version=1, roles={name: anywhere}), caller


def _allows(policy: Policy, caller: Principal, tool: CatalogueTool) -> bool:
    return decide(policy, caller, Target("tool", tool.name, tool.scope)).allowed


def _waits_for_a_person(policy: Policy, tool: CatalogueTool) -> bool:
    # Two steps prove two calls and not a person: the model that was talked into one makes the other.
    need = confirmation_for(policy.approvals, tool.name, by_default=tool.confirmed)
    return need.confirm == "human"


def _touching(kind: DataKind, tools: Iterable[CatalogueTool]) -> list[str]:
    return [tool.name for tool in tools if kind in tool.touches]


def _some(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _approvals(policy: Policy, catalogue: Sequence[CatalogueTool]) -> Iterator[Finding]:
    for index, rule in enumerate(policy.approvals):
        yield from _unmatched(("approvals", index, "tools"), rule.tools, catalogue)


def _unknown_scopes(name: str, role: Role, catalogue: Sequence[CatalogueTool]) -> Iterator[Finding]:
    known = {tool.scope for tool in catalogue}.union(*(r.scopes for r in BUILT_IN.roles.values()))
    for scope in sorted(role.scopes - known):
        yield Finding("warning", ("roles", name, "scopes"), f"no tool needs the scope {scope}")


def _unmatched(
    path: tuple[str | int, ...], globs: Iterable[str], catalogue: Sequence[CatalogueTool]
) -> Iterator[Finding]:
    for glob in globs:
        if not any(fnmatchcase(tool.name, glob) for tool in catalogue):
            yield Finding("warning", path, f"{glob} matches no tool")
