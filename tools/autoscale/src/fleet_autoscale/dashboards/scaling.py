"""Why each service has the pods it has; docs/scaling.md explains the figures."""

from __future__ import annotations

from fleet_autoscale.dashboards.grid import Dashboard, Panel, Query, Row, Variable
from fleet_autoscale.dashboards.queries import labels

_CHOSEN = 'service=~"$service"'


def dashboard() -> Dashboard:
    """Return the page."""
    service = Variable("service", "mcp_admission_limit")
    rows = [_demand(), _pressure(), _pods()]
    return Dashboard("mcp-scaling", "MCP scaling", rows, [service])


def _demand() -> Row:
    wanted = [_recorded("required_slots", "needed"), _recorded("present_slots", "present")]
    parts = [_recorded(f"{part}_slots", part) for part in ("demand", "cpu", "pressure", "engine")]
    share = f"fleet:required_slots{labels(_CHOSEN)} / fleet:present_slots{labels(_CHOSEN)}"
    return Row(
        "Slots",
        [
            Panel("Needed and present", wanted),
            Panel("What asks for them", parts, note="The greatest counts."),
            Panel(
                "Needed, by the present ones", [Query(share, "{{service}}")], "percentunit", red=1.2
            ),
        ],
    )


def _pressure() -> Row:
    spans = [_recorded("service_seconds", "mean"), _recorded("service_seconds:recent", "of 30 s")]
    gates = [_recorded("p95_pressure", "p95"), _recorded("memory_pressure", "memory")]
    calls = [_recorded("waiting_calls", "wait"), _recorded("running_slots", "run")]
    return Row(
        "Signals",
        [
            Panel("Calls", calls),
            Panel("Time in a slot", spans, "s"),
            Panel("Pressures", gates, note="More than 1 asks for more than there is.", red=1),
        ],
    )


def _pods() -> Row:
    replicas = "kube_horizontalpodautoscaler_status_current_replicas" + labels()
    most = "kube_horizontalpodautoscaler_spec_max_replicas" + labels()
    tasks = f"fleet:tasks_pending{labels()}"
    autoscaler = "{{horizontalpodautoscaler}}"
    return Row(
        "Pods",
        [
            Panel("Pods", [Query(replicas, autoscaler)], note="Needs kube-state-metrics."),
            Panel(
                "Pods, by the most there may be",
                [Query(f"{replicas} / {most}", autoscaler)],
                "percentunit",
                red=1,
            ),
            Panel("Tasks", [Query(tasks, "{{queue}}")]),
        ],
    )


def _recorded(name: str, what: str) -> Query:
    return Query(f"fleet:{name}{labels(_CHOSEN)}", f"{{{{service}}}} {what}")
