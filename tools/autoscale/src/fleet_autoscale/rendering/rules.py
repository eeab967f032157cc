"""Recording rules: how many slots each service needs now, as one number.

`fleet:required_slots` is the greatest of three: the slots that the traffic needs (Little's law, and what waits), those
that the CPU in use amounts to, and the present ones times a pressure: up to a quarter more while the p95 is over its
objective because calls wait here, or memory is short because calls run here.

A service whose pods are not scraped has no `fleet:required_slots`: unknown, so nothing shrinks. Where zero pods are
allowed the last figure stays instead: 0 after they went for want of calls, else the demand when they were lost.
"""

from __future__ import annotations

from pathlib import Path

from fleet_autoscale.policy import Engine, Policy, ServicePolicy
from fleet_autoscale.rendering.manifests import Files, component

INTERVAL = "5s"
PRESSURE_LIMIT = 1.25
"""A pressure adds at most a quarter of the pods at a time."""
MEMORY_SHARE = 0.9
"""Part of its limit that a pod's memory may reach before more pods are asked for."""
GATE_WINDOW_S = 30
"""Over which a downstream is seen to be slow; sooner than the p95 shows it."""
CPU_CORES = 0.85
"""Of the one core that a process can use."""
_BY = "by (namespace, service)"
_ON = "on (namespace, service)"

Rule = dict[str, str]


def groups(policy: Policy) -> dict[str, object]:
    """Return the rule file: a group for each service, whose rules build on one another in order."""
    return {
        "groups": [
            {
                "name": f"fleet-scaling-{name}",
                "interval": INTERVAL,
                "rules": [{"record": f"fleet:{n}", "expr": e} for n, e in _rules(name, service)],
            }
            for name, service in policy.services.items()
        ]
    }


def files(policy: Policy) -> Files:
    """Return the same for the Prometheus operator, as a component."""
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "fleet-scaling"},
        "spec": groups(policy),
    }
    return {Path("rules.yaml"): rule, Path("kustomization.yaml"): component(["rules.yaml"])}


def _rules(name: str, service: ServicePolicy) -> list[tuple[str, str]]:
    me = f'{{service="{name}"}}'
    found = [
        ("present_slots", f"sum {_BY} (mcp_admission_limit{me})"),
        ("pod_slots", f"avg {_BY} (mcp_admission_limit{me} > 0)"),
        ("waiting_calls", f"sum {_BY} (mcp_admission_waiting{me})"),
        ("running_slots", f"sum {_BY} (mcp_admission_inflight{me})"),
        ("service_seconds", _service_seconds(me, service, "5m")),
        ("service_seconds:recent", _service_seconds(me, service, f"{GATE_WINDOW_S}s")),
        ("demand_slots", _demand(me, service)),
        ("cpu_slots", _cpu(me)),
        ("p95_pressure", _p95_pressure(me, service)),
        ("memory_pressure", _memory_pressure(me, service)),
        ("pressure_slots", _pressure_slots(me)),
    ]
    if service.engine:
        found.append(("engine_slots", _engine(me, service.engine)))
    if service.worker:
        found.append(("tasks_pending", _tasks(name)))
    return [*found, ("required_slots", _required(me, service))]


def _service_seconds(me: str, service: ServicePolicy, window: str) -> str:
    """Return the mean time in a slot; what was measured, while no call ended."""
    spent = f"sum {_BY} (rate(mcp_service_seconds_sum{me}[{window}]))"
    ended = f"sum {_BY} (rate(mcp_service_seconds_count{me}[{window}]))"
    return (
        f"{spent} / ({ended} > 0) or 0 * fleet:present_slots{me} + {service.measured.service_s:g}"
    )


def _demand(me: str, service: ServicePolicy) -> str:
    """Return the slots that arrivals and waiting calls need.

    A call that a pod sheds tries another one: with a share of refusals r, calls are started 1 + r times.
    """
    demand = service.demand
    started = f"sum {_BY} (rate(mcp_requests_started_total{me}[30s]))"
    shed = f"sum {_BY} (rate(mcp_admission_shed_total{me}[30s]))"
    refused = f"({shed} / {_ON} ({started} > 0) or 0 * fleet:present_slots{me})"
    believed = (
        f"clamp_max(fleet:service_seconds{me}, {demand.slowdown * service.measured.service_s:g})"
    )
    return (
        f"{started} / {_ON} (1 + {refused}) * {_ON} {believed} / {demand.utilization:g}"
        f" + {_ON} fleet:waiting_calls{me} * {_ON} {believed} / {demand.drain_s:g}"
    )


def _cpu(me: str) -> str:
    """Return the slots of as many pods as the CPU in use fills, at as many a pod as pods say they have."""
    used = f"rate(process_cpu_seconds_total[1m]) {_joined(me)}"
    return f"sum {_BY} ({used}) / {CPU_CORES:g} * {_ON} fleet:pod_slots{me}"


def _p95_pressure(me: str, service: ServicePolicy) -> str:
    """Return p95 / objective where local queueing explains it, else 0.

    A queue behind a slow downstream is no reason: more pods would wait for the same thing. Without traffic the quantile
    is NaN, which no comparison lets through.
    """
    buckets = (
        "sum by (namespace, service, le) (rate(mcp_request_duration_seconds_bucket" + me + "[1m]))"
    )
    p95 = f"(histogram_quantile(0.95, {buckets}) / {service.slo_s:g} >= 0)"
    is_queued = f"(fleet:waiting_calls{me} > bool 0)"
    believed_s = service.demand.slowdown * service.measured.service_s
    is_local = f"(fleet:service_seconds:recent{me} <= bool {believed_s:g})"
    limited = f"clamp_max({p95}, {PRESSURE_LIMIT})"
    return f"{limited} * {_ON} {is_queued} * {_ON} {is_local} or 0 * fleet:present_slots{me}"


def _memory_pressure(me: str, service: ServicePolicy) -> str:
    """Return memory / limit where calls explain it, else 0: more pods help against calls, not against a leak."""
    limit = service.memory_mib * 2**20 * MEMORY_SHARE
    used = f"avg {_BY} (process_resident_memory_bytes {_joined(me)})"
    is_busy = f"(fleet:running_slots{me} > bool 0.5 * fleet:present_slots{me})"
    return f"clamp_max({used} / {limit:.0f}, {PRESSURE_LIMIT}) * {_ON} {is_busy}"


def _pressure_slots(me: str) -> str:
    worst = f'max {_BY} ({{__name__=~"fleet:(p95|memory)_pressure", {me[1:]})'
    return f"{worst} * {_ON} fleet:present_slots{me}"


def _engine(me: str, engine: Engine) -> str:
    tokens = engine.tokens_per_s * engine.drain_s
    return f"sum {_BY} (aiml_queue_tokens{me}) / {tokens:g} * {_ON} fleet:pod_slots{me}"


def _required(me: str, service: ServicePolicy) -> str:
    parts = "demand|cpu|pressure" + ("|engine" if service.engine else "")
    greatest = f'max {_BY} ({{__name__=~"fleet:({parts})_slots", {me[1:]})'
    known = f"{greatest} and {_ON} fleet:demand_slots{me}"
    if service.idle_s is None:
        return known
    # What a pod that nobody calls uses of the CPU must not keep it, and a call that takes longer than the rate's window
    # must not look like no call.
    asked = f"({known}) * {_ON} (fleet:demand_slots{me} > bool 0)"
    running = f"clamp_max(fleet:running_slots{me}, 1)"
    return f"{asked} > {_ON} {running} or {running} or {_last('required_slots', me)}"


def _tasks(name: str) -> str:
    """Return the tasks that are not finished; every process reads the same queue, and NaN while Redis is away."""
    me = f'{{queue="{name}"}}'
    pending = f"max by (namespace, queue) (mcp_tasks_pending{me} >= 0)"
    return f"{pending} or {_last('tasks_pending', me)}"


def _last(record: str, me: str) -> str:
    # A rule that reads itself: each evaluation passes the figure on, for as long as nobody says otherwise.
    return f"last_over_time(fleet:{record}{me}[10m])"


def _joined(me: str) -> str:
    """Return the join that gives a process's own series the service's name.

    Workers are left out: they export the same series, with no slots.
    """
    has_slots = f"(mcp_admission_limit{me} > 0) ^ 0"
    return f"* on (namespace, job, instance) group_left (service) ({has_slots})"
