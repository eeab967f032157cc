"""All services on one page: is anything wrong, and where?"""

from __future__ import annotations

from fleet_autoscale.dashboards.grid import Dashboard, Panel, Query, Row
from fleet_autoscale.dashboards.queries import burn, labels, per_second, quantile


def dashboard() -> Dashboard:
    """Return the page."""
    return Dashboard("mcp-fleet", "MCP fleet", [_now(), _objectives(), _load(), _state()])


def _now() -> Row:
    fire = labels('alertstate="firing"')
    alerts = f"sum by (severity) (ALERTS{fire}) or vector(0)"
    processes = f"count by (service) (mcp_admission_limit{labels()})"
    left = f"1 - fleet:slo_errors:3d{labels()} / on (service, slo) group_left () (10 * fleet:slo_budget)"
    return Row(
        "Now",
        [
            Panel("Alerts that fire", [Query(alerts, "{{severity}}")], kind="stat", red=1),
            Panel("Processes", [Query(processes, "{{service}}")], kind="stat"),
            Panel(
                "Error budget left of the month",
                [Query(left, "{{service}} {{slo}}")],
                "percentunit",
                kind="stat",
                note="If the rest of the month were free of errors, after the last three days.",
            ),
        ],
    )


def _objectives() -> Row:
    failed = "fleet:slo_errors:5m" + labels('slo="available"')
    slow = quantile(0.95, "mcp_request_duration_seconds", "service")
    return Row(
        "Objectives",
        [
            Panel("Calls that fail", [Query(failed, "{{service}}")], "percentunit"),
            Panel(
                "p95, by the objective",
                [Query(f"{slow} / on (service) group_left () fleet:slo_seconds", "{{service}}")],
                "percentunit",
                red=1,
            ),
            Panel("Budget burn over an hour", [burn("1h")], red=14.4, note="1 is even."),
        ],
    )


def _load() -> Row:
    full = (
        f"sum by (service) (mcp_admission_inflight{labels()})"
        f" / sum by (service) (mcp_admission_limit{labels()})"
    )
    waiting = f"sum by (service) (mcp_admission_waiting{labels()})"
    return Row(
        "Load",
        [
            Panel(
                "Calls",
                [Query(per_second("mcp_requests_started_total", "service"), "{{service}}")],
                "reqps",
            ),
            Panel("Slots in use", [Query(full, "{{service}}")], "percentunit", red=0.9),
            Panel("Calls that wait", [Query(waiting, "{{service}}")]),
            Panel(
                "Calls turned away",
                [Query(per_second("mcp_admission_shed_total", "service"), "{{service}}")],
                "reqps",
            ),
        ],
    )


def _state() -> Row:
    checks = f"min by (service, check) (mcp_check_ok{labels()})"
    breakers = f"max by (service, dep) (mcp_breaker_open{labels()})"
    local = f"max by (service) (mcp_limits_local{labels()})"
    off = f"max(mcp_switched_off{labels()})"
    versions = f"count by (service, version) (mcp_build_info{labels()})"
    return Row(
        "State",
        [
            Panel("Checks that pass", [Query(checks, "{{service}} {{check}}")]),
            Panel("Open breakers", [Query(breakers, "{{service}} {{dep}}")], red=1),
            Panel(
                "Without Redis, and switched off",
                [Query(local, "{{service}} limits local"), Query(off, "switched off")],
            ),
            Panel("Versions", [Query(versions, "{{service}} {{version}}")]),
        ],
    )
