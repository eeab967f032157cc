"""One service: its objectives, traffic, slots, processes and dependencies, and what only it has."""

from __future__ import annotations

from collections.abc import Callable

from fleet_autoscale.dashboards.grid import RATE, Dashboard, Panel, Query, Row
from fleet_autoscale.dashboards.queries import burn, labels, own, per_second, quantile
from fleet_autoscale.policy import ServicePolicy


def dashboard(name: str, policy: ServicePolicy) -> Dashboard:
    """Return the page of a service."""
    me = f'service="{name}"'
    rows = [_objectives(me, policy), _traffic(me), _slots(me), _processes(name)]
    rows.append(_checks(me) if name in _NO_HTTP else _dependencies(me))
    if policy.worker:
        rows.append(_tasks(name))
    if name in _OWN:
        rows.append(_OWN[name](me))
    return Dashboard(f"mcp-{name}", f"MCP {name}", rows)


def _objectives(me: str, policy: ServicePolicy) -> Row:
    spans = [
        Query(quantile(share, "mcp_request_duration_seconds", "service", me), f"p{share * 100:g}")
        for share in (0.5, 0.95, 0.99)
    ]
    return Row(
        "Objectives",
        [
            Panel("Budget burn over an hour", [burn("1h", me)], red=14.4, note="1 is even."),
            Panel("Budget burn over six hours", [burn("6h", me)], red=6, note="1 is even."),
            Panel("Time of a call, waiting included", spans, "s", red=policy.slo_s),
        ],
    )


def _traffic(me: str) -> Row:
    outcomes = Query(per_second("mcp_tool_calls_total", "outcome", me), "{{outcome}}")
    shed = Query(per_second("mcp_admission_shed_total", "reason", me), "{{reason}}")
    calls = Query(per_second("mcp_requests_started_total", "service", me), "calls")
    return Row(
        "Traffic",
        [
            Panel("Calls", [calls], "reqps"),
            Panel("Tool calls by outcome", [outcomes], "reqps", stacked=True),
            Panel("Turned away", [shed], "reqps", stacked=True),
        ],
    )


def _slots(me: str) -> Row:
    series = {
        "slots": f"sum(mcp_admission_limit{labels(me)})",
        "in use": f"sum(mcp_admission_inflight{labels(me)})",
        "wait": f"sum(mcp_admission_waiting{labels(me)})",
    }
    waits = Query(quantile(0.95, "mcp_queue_seconds", "service", me), "waiting")
    works = Query(quantile(0.95, "mcp_service_seconds", "service", me), "in a slot")
    return Row(
        "Slots",
        [
            Panel("Slots", [Query(expr, legend) for legend, expr in series.items()]),
            Panel("p95 of the two parts of a call", [waits, works], "s"),
        ],
    )


def _checks(me: str) -> Row:
    checks = Query(f"min by (check) (mcp_check_ok{labels(me)})", "{{check}} passes")
    return Row("Dependencies", [Panel("Checks", [checks])])


def _dependencies(me: str) -> Row:
    spans = Query(quantile(0.95, "mcp_downstream_seconds", "dep", me), "{{dep}}")
    attempts = Query(per_second("mcp_downstream_seconds_count", "dep", me), "{{dep}}")
    checks = Query(f"min by (check) (mcp_check_ok{labels(me)})", "{{check}} passes")
    breakers = Query(f"max by (dep) (mcp_breaker_open{labels(me)})", "{{dep}} left alone")
    return Row(
        "Dependencies",
        [
            Panel("p95 of an attempt", [spans], "s"),
            Panel("Attempts", [attempts], "reqps"),
            Panel("Checks and breakers", [checks, breakers]),
        ],
    )


def _processes(name: str) -> Row:
    cpu = own(f"rate(process_cpu_seconds_total{labels()}[{RATE}])", name)
    memory = own(f"process_resident_memory_bytes{labels()}", name)
    files = own(f"process_open_fds{labels()}", name)
    return Row(
        "Processes",
        [
            Panel("CPU, in cores", [Query(cpu, "{{instance}}")]),
            Panel("Memory", [Query(memory, "{{instance}}")], "bytes"),
            Panel("Open files", [Query(files, "{{instance}}")]),
        ],
    )


def _tasks(name: str) -> Row:
    queue = labels(f'queue="{name}"')
    pending = Query(f"max(mcp_tasks_pending{queue})", "not finished")
    oldest = Query(f"max(mcp_tasks_oldest_seconds{queue})", "oldest waits")
    return Row("Tasks", [Panel("Tasks", [pending]), Panel("Oldest task", [oldest], "s", red=300)])


def _of_gateway(me: str) -> Row:
    by_service = "{{dep}}"
    endpoints = Query(f"max by (dep) (mcp_gateway_endpoints{labels(me)})", by_service)
    held = Query(f"sum by (dep) (mcp_gateway_held{labels(me)})", by_service)
    failures = Query(per_second("mcp_gateway_failures_total", "dep", me), by_service)
    ejections = Query(per_second("mcp_gateway_ejections_total", "dep", me), by_service)
    return Row(
        "Services behind it",
        [
            Panel("Endpoints", [endpoints]),
            Panel("Calls held until there is an endpoint", [held]),
            Panel("Without a good answer", [failures], "reqps"),
            Panel("Endpoints left alone", [ejections], "ops"),
        ],
    )


def _of_data(me: str) -> Row:
    used = (
        f"max by (role) (data_pool_in_use{labels(me)}) / max by (role) (data_pool_size{labels(me)})"
    )
    jobs = Query(f"max by (kind) (data_jobs_pending{labels(me)})", "{{kind}}")
    cache = Query(per_second("mcp_cache_total", "outcome", me), "{{outcome}}")
    return Row(
        "Database, jobs and cache",
        [
            Panel("Connections in use", [Query(used, "{{role}}")], "percentunit", red=0.9),
            Panel("Jobs that are due", [jobs]),
            Panel("Cached answers", [cache], "ops", stacked=True),
        ],
    )


def _of_aiml(me: str) -> Row:
    found = [
        Panel(title, [Query(f"sum by (engine) ({series}{labels(me)})", "{{engine}}")], unit)
        for title, series, unit in (
            ("Inputs that wait", "aiml_queue_depth", "short"),
            ("Tokens that wait", "aiml_queue_tokens", "short"),
            ("Oldest input", "aiml_queue_oldest_seconds", "s"),
        )
    ]
    return Row("Models", found)


_NO_HTTP = {"aiml"}
"""Services that call nobody over HTTP by our client."""
_OWN: dict[str, Callable[[str], Row]] = {
    "gateway": _of_gateway,
    "data": _of_data,
    "aiml": _of_aiml,
}
