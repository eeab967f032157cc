"""ScaledObjects for KEDA, which scales to zero and back as well.

`ignoreNullValues` is false everywhere: KEDA's default takes a Prometheus that knows nothing for a demand of nothing,
and would scale in when it is away. The fallback then keeps the pods there are.
"""

from __future__ import annotations

from pathlib import Path

from fleet_autoscale.policy import POLL_S, Policy, ServicePolicy
from fleet_autoscale.rendering.manifests import (
    Document,
    Files,
    admission,
    behavior,
    components,
    scaled,
)

_WORKER_IDLE_S = 300


def files(policy: Policy) -> Files:
    """Return a component for each service and one of them all."""
    found: Files = {Path("kustomization.yaml"): components(list(policy.services))}
    for name, service in policy.services.items():
        resources = ["scaledobject.yaml"]
        found[Path(name, "scaledobject.yaml")] = _service(policy, name, service)
        if service.worker:
            resources.append("worker-scaledobject.yaml")
            found[Path(name, "worker-scaledobject.yaml")] = _worker(policy, name, service)
        found[Path(name, "admission.yaml")] = admission(name, service)
        found[Path(name, "kustomization.yaml")] = scaled(name, service, resources)
    return found


def _service(policy: Policy, name: str, service: ServicePolicy) -> Document:
    where = _labels(policy, f'service="{name}"')
    triggers = [_trigger(policy, f"max(fleet:required_slots{where})", service.slots)]
    if service.idle_s is not None:
        held = _labels(policy, f'dep="{name}"')
        # While there is no pod, calls are held by the gateway: the first one wakes the service.
        triggers.append(
            _trigger(policy, f"sum(mcp_gateway_held{held}) or vector(0)", service.slots)
        )
    bounds = (service.floor, policy.maximum(name))
    return _scaled(name, bounds, service.idle_s, triggers, behavior(service))


def _worker(policy: Policy, name: str, service: ServicePolicy) -> Document:
    assert service.worker  # noqa: S101 - for the type checker: the caller looked
    where = _labels(policy, f'queue="{name}"')
    trigger = _trigger(policy, f"max(fleet:tasks_pending{where})", service.worker.tasks)
    bounds = (1, service.worker.ceiling)
    return _scaled(f"{name}-worker", bounds, _WORKER_IDLE_S, [trigger], behavior(service))


def _labels(policy: Policy, own: str) -> str:
    """Return a selector of the fleet's own series; a Prometheus of one fleet may give them no namespace."""
    return f'{{{own}, namespace=~"{policy.namespace}|"}}'


def _trigger(policy: Policy, query: str, target: int) -> Document:
    return {
        "type": "prometheus",
        "metricType": "AverageValue",
        "metadata": {
            "serverAddress": policy.prometheus,
            "query": query,
            "threshold": str(target),
            "activationThreshold": "0",
            "ignoreNullValues": "false",
        },
    }


def _scaled(
    name: str,
    bounds: tuple[int, int],
    idle_s: int | None,
    triggers: list[Document],
    moves: Document,
) -> Document:
    idle = {} if idle_s is None else {"idleReplicaCount": 0, "cooldownPeriod": idle_s}
    return {
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": name},
        "spec": {
            "scaleTargetRef": {"name": name},
            "pollingInterval": POLL_S,
            **idle,
            "minReplicaCount": bounds[0],
            "maxReplicaCount": bounds[1],
            "fallback": {
                "failureThreshold": 3,
                "replicas": bounds[0],
                "behavior": "currentReplicasIfHigher",
            },
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": moves}},
            "triggers": triggers,
        },
    }
