"""Approvals: a person says yes to what a call would do, before it does it, once, within five minutes.

An approval is bound to the caller, the tool, the arguments and the version of the object. How the person is asked
depends on the client and is decided in `fleet_common.mcp.approval`.
"""

from fleet_common.approvals.models import Approver, Ask, Plan, Request, Verdict
from fleet_common.approvals.office import Approvals
from fleet_common.approvals.planning import needs_approval

__all__ = ["Approvals", "Approver", "Ask", "Plan", "Request", "Verdict", "needs_approval"]
