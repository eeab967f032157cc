"""Which calls need an approval, and of what kind: the first rule of the policy that names the tool, else a person."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from fleet_common.policy import ApprovalRule
from fleet_common.policy.decision import first_match


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What a call needs.

    Attributes:
        confirm: human; two_step, where a second call with a token is enough when no person can be asked in the
            client; none.
        second_person: somebody other than the caller must approve, so no question in the caller's client will do.
    """

    confirm: Literal["human", "two_step", "none"]
    second_person: bool = False


def confirmation_for(rules: Iterable[ApprovalRule], tool: str, *, by_default: bool) -> Confirmation:
    """Return what calls of `tool` need.

    Args:
        rules: the policy's, in its order.
        tool: exact name.
        by_default: without a rule the tool needs a person, since it is destructive or says so itself.
    """
    for rule in rules:
        if first_match(rule.tools, tool):
            return Confirmation(rule.confirm, rule.second_person and rule.confirm != "none")
    return Confirmation("human" if by_default else "none")
