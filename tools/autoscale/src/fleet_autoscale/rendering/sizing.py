"""What to give a pod: the vertical half of the policy, from measurements, as a table for docs/scaling.md."""

from __future__ import annotations

from fleet_autoscale.policy import Policy


def table(policy: Policy) -> str:
    """Return a Markdown table of each service's pods: what they take, and how many there may be."""
    lines = [
        "| service | calls/s a pod | CPU request | memory limit | pods | connections at most |",
        "|---|---|---|---|---|---|",
    ]
    for name, service in policy.services.items():
        pods = f"{0 if service.idle_s else service.floor} to {policy.maximum(name)}"
        lines.append(
            f"| {name} | {service.rate:.0f} | {service.cpu_cores * 1000:.0f}m | {service.memory_mib} MiB "
            f"| {pods} | {policy.connections(name) or '–'} |"
        )
    return "\n".join(lines)
