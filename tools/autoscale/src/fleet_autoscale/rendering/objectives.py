"""Objectives as rules: how much of each one's error budget goes, and alerts when it goes too fast.

An alert looks at a long window, so that it is about something that matters, and at a short one, so that it ends soon
after the trouble does (Site Reliability Workbook, chapter 5, "Multiwindow, Multi-Burn-Rate Alerts").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fleet_autoscale.policy import Policy

INTERVAL = "30s"
ENOUGH_CALLS = 10
"""Fewer in a window say nothing: one failed call of a quiet night must not wake anybody."""
FAULTS = ("internal", "unavailable", "overloaded", "audit_unavailable", "deadline_exceeded")
"""Outcomes that are ours to answer for; all others are about the call or the caller."""
WINDOWS = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
_BY = "by (namespace, service)"
_ON = "on (namespace, service)"

# Any: as YAML has them, labels and annotations are mappings, the rest is text.
Rule = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Burn:
    """How fast a month's budget may not go: `rate` times evenly, seen in both windows for `pending`."""

    rate: float
    long: str
    short: str
    pending: str
    severity: str


BURNS = (
    Burn(14.4, "1h", "5m", "2m", "critical"),  # 2 % of a month's budget in an hour
    Burn(6, "6h", "30m", "15m", "critical"),  # 5 % in six hours
    Burn(3, "1d", "2h", "1h", "warning"),  # 10 % in a day
    Burn(1, "3d", "6h", "3h", "warning"),  # 10 % in three days
)
_ALERTS = {
    "available": ("AvailabilityBurn", "calls of {{ $labels.service }} fail"),
    "fast": ("LatencyBurn", "calls of {{ $labels.service }} are slow"),
}


def group(policy: Policy) -> dict[str, object]:
    """Return the rules that the alerts and dashboards read."""
    budgets = [
        _constant("slo_budget", 1 - goal, service=name, slo=slo)
        for name, service in policy.services.items()
        for slo, goal in service.objectives
    ]
    seconds = [_constant("slo_seconds", e.slo_s, service=n) for n, e in policy.services.items()]
    shares = [
        {"record": f"fleet:slo_errors:{window}", "expr": expr, "labels": {"slo": slo}}
        for window in WINDOWS
        for slo, expr in (("available", _failed(window)), ("fast", _slow(policy, window)))
    ]
    return {
        "name": "fleet-objectives",
        "interval": INTERVAL,
        "rules": [*budgets, *seconds, *shares],
    }


def alerts() -> dict[str, object]:
    """Return the group of alerts."""
    rules = [_alert(slo, burn) for slo in _ALERTS for burn in BURNS]
    return {"name": "fleet-burn", "interval": INTERVAL, "rules": rules}


def _constant(record: str, number: float, **labels: str) -> Rule:
    return {"record": f"fleet:{record}", "expr": f"vector({number:.6g})", "labels": labels}


def _failed(window: str) -> str:
    outcomes = "|".join(FAULTS)
    failed = (
        f"increase(mcp_admission_shed_total[{window}])"
        f' or increase(mcp_tool_calls_total{{outcome=~"{outcomes}"}}[{window}])'
        f" or increase(mcp_gateway_failures_total[{window}])"
    )
    return f"sum {_BY} ({failed}) / {_ON} {_enough('mcp_requests_started_total', window)}"


def _slow(policy: Policy, window: str) -> str:
    fast = " or ".join(
        f'increase(mcp_request_duration_seconds_bucket{{service="{name}",le="{float(each.slo_s)}"}}[{window}])'
        for name, each in policy.services.items()
    )
    calls = _enough("mcp_request_duration_seconds_count", window)
    return f"1 - sum {_BY} ({fast}) / {_ON} {calls}"


def _enough(calls: str, window: str) -> str:
    return f"(sum {_BY} (increase({calls}[{window}])) >= {ENOUGH_CALLS})"


def _alert(slo: str, burn: Burn) -> Rule:
    name, what = _ALERTS[slo]
    used_up = f"{burn.rate:g} times as fast as the month allows"
    return {
        "alert": name,
        "expr": " and ".join(_burns(slo, burn.rate, each) for each in (burn.long, burn.short)),
        "for": burn.pending,
        "labels": {"severity": burn.severity, "window": burn.long},
        "annotations": {"summary": f"{what}: the error budget goes {used_up}"},
    }


def _burns(slo: str, rate: float, window: str) -> str:
    share = f'fleet:slo_errors:{window}{{slo="{slo}"}}'
    return f"{share} > on (service, slo) group_left () ({rate:g} * fleet:slo_budget)"
