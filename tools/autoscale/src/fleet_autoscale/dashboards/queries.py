"""Expressions that several dashboards ask for."""

from __future__ import annotations

from fleet_autoscale.dashboards.grid import NAMESPACE, RATE, Query


def labels(*more: str) -> str:
    """Return the selector of a series, the namespace included."""
    return "{" + ", ".join((NAMESPACE, *more)) + "}"


def per_second(counter: str, by: str, *where: str) -> str:
    """Return how fast a counter grows, by a label."""
    return f"sum by ({by}) (rate({counter}{labels(*where)}[{RATE}]))"


def quantile(share: float, histogram: str, by: str, *where: str) -> str:
    """Return a quantile of a histogram of seconds, by a label."""
    return (
        f"histogram_quantile({share:g}, {per_second(f'{histogram}_bucket', f'{by}, le', *where)})"
    )


def burn(window: str, *where: str) -> Query:
    """Return how many times too fast the error budgets go."""
    shares = f"fleet:slo_errors:{window}{labels(*where)}"
    budgets = "on (service, slo) group_left () fleet:slo_budget"
    return Query(f"{shares} / {budgets}", "{{service}} {{slo}}")


def own(series: str, service: str) -> str:
    """Return a process's own series (CPU, memory, files) for one service, workers included.

    What the Python client exports by itself has no label of ours.
    """
    me = f'service="{service}"'
    of_service = f"(mcp_admission_limit{labels(me)} ^ 0)"
    return f"{series} * on (namespace, job, instance) group_left (service) {of_service}"
