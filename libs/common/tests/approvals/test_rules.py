"""Which calls need what."""

from __future__ import annotations

from typing import Literal

from fleet_common.approvals.rules import Confirmation, confirmation_for
from fleet_common.policy import ApprovalRule


def rule(
    *tools: str, confirm: Literal["human", "two_step", "none"], second_person: bool = False
) -> ApprovalRule:
    return ApprovalRule(tools=tools, confirm=confirm, second_person=second_person)


def test_without_a_rule_a_destructive_tool_needs_a_person_and_no_other_does() -> None:
    assert confirmation_for([], "crm_delete", by_default=True) == Confirmation("human")
    assert confirmation_for([], "crm_get", by_default=False) == Confirmation("none")


def test_the_first_rule_that_names_the_tool_wins() -> None:
    rules = [
        rule("mail_*", confirm="human"),
        rule("crm_delete", confirm="two_step"),
        rule("*", confirm="none"),
    ]
    assert confirmation_for(rules, "crm_delete", by_default=True) == Confirmation("two_step")
    assert confirmation_for(rules, "mail_send", by_default=False) == Confirmation("human")
    assert confirmation_for(rules, "k8s_delete", by_default=True) == Confirmation("none")


def test_a_second_person_is_asked_for_only_where_somebody_is_asked() -> None:
    rules = [
        rule("a", confirm="human", second_person=True),
        rule("b", confirm="none", second_person=True),
    ]
    assert confirmation_for(rules, "a", by_default=True) == Confirmation("human", True)
    assert confirmation_for(rules, "b", by_default=True) == Confirmation("none")


def test_upper_and_lower_case_are_different() -> None:
    rules = [rule("CRM_*", confirm="none")]
    assert confirmation_for(rules, "crm_delete", by_default=True) == Confirmation("human")
