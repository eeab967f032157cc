"""Who may do what, how much and where: one YAML file, one pure decision, asked for every call and every list."""

from fleet_common.policy.decision import APPROVE_SCOPE, REGISTRY_ROLE, Decision, Target, decide
from fleet_common.policy.file import PolicyFile
from fleet_common.policy.grant import Grant
from fleet_common.policy.models import (
    ApprovalRule,
    Limit,
    Limits,
    Policy,
    Quotas,
    Role,
    TenantRules,
)
from fleet_common.policy.source import BUILT_IN, BadPolicy, parse_policy

__all__ = [
    "APPROVE_SCOPE",
    "BUILT_IN",
    "REGISTRY_ROLE",
    "ApprovalRule",
    "BadPolicy",
    "Decision",
    "Grant",
    "Limit",
    "Limits",
    "Policy",
    "PolicyFile",
    "Quotas",
    "Role",
    "Target",
    "TenantRules",
    "decide",
    "parse_policy",
]
