"""HorizontalPodAutoscalers on external metrics, and the prometheus-adapter configuration that serves these."""

from __future__ import annotations

from pathlib import Path

from fleet_autoscale.policy import Policy
from fleet_autoscale.rendering.manifests import (
    METRIC,
    Document,
    Files,
    admission,
    behavior,
    components,
    scaled,
)

TASKS = "fleet_tasks_pending"


def files(policy: Policy) -> Files:
    """Return a component for each service and one of them all; the adapter's file is applied by whoever runs it."""
    found: Files = {
        Path("kustomization.yaml"): components(list(policy.services)),
        Path("prometheus-adapter.yaml"): adapter(),
    }
    for name, service in policy.services.items():
        resources = ["hpa.yaml"]
        found[Path(name, "hpa.yaml")] = _autoscaler(
            name,
            (service.floor, policy.maximum(name)),
            _external(METRIC, {"service": name}, service.slots),
            behavior(service),
        )
        if service.worker:
            resources.append("worker-hpa.yaml")
            found[Path(name, "worker-hpa.yaml")] = _autoscaler(
                f"{name}-worker",
                (1, service.worker.ceiling),
                _external(TASKS, {"queue": name}, service.worker.tasks),
                behavior(service),
            )
        found[Path(name, "admission.yaml")] = admission(name, service)
        found[Path(name, "kustomization.yaml")] = scaled(name, service, resources)
    return found


def adapter() -> Document:
    """Return prometheus-adapter's configuration file."""
    return {
        "externalRules": [
            _served("fleet:required_slots", METRIC),
            _served("fleet:tasks_pending", TASKS),
        ]
    }


def _served(series: str, name: str) -> Document:
    return {
        "seriesQuery": series,
        "resources": {"overrides": {"namespace": {"resource": "namespace"}}},
        "name": {"as": name},
        "metricsQuery": "<<.Series>>{<<.LabelMatchers>>}",
    }


def _external(metric: str, labels: Document, target: int) -> Document:
    return {
        "type": "External",
        "external": {
            "metric": {"name": metric, "selector": {"matchLabels": labels}},
            # AverageValue is total / target: it works while pods are pending, and cannot compound.
            "target": {"type": "AverageValue", "averageValue": str(target)},
        },
    }


def _autoscaler(name: str, bounds: tuple[int, int], metric: Document, moves: Document) -> Document:
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": bounds[0],
            "maxReplicas": bounds[1],
            "metrics": [metric],
            "behavior": moves,
        },
    }
