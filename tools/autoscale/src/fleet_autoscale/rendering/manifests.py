"""What HPAs and ScaledObjects have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fleet_autoscale.policy import UP_TOLERANCE, ServicePolicy

METRIC = "fleet_required_slots"
Document = dict[str, Any]  # Any: a manifest's values are of every type
Files = dict[Path, Document]


def behavior(service: ServicePolicy) -> Document:
    """Return an HPA's `behavior`."""
    up, down = service.up, service.down
    return {
        "scaleUp": {
            "stabilizationWindowSeconds": up.window_s,
            "selectPolicy": "Max",
            "tolerance": str(
                UP_TOLERANCE
            ),  # dropped by clusters before 1.35, which then use a tenth
            "policies": [
                {"type": "Percent", "value": up.percent, "periodSeconds": up.period_s},
                {"type": "Pods", "value": up.pods, "periodSeconds": up.period_s},
            ],
        },
        "scaleDown": {
            "stabilizationWindowSeconds": down.window_s,
            "selectPolicy": "Max",
            "policies": [
                {"type": "Percent", "value": down.percent, "periodSeconds": down.period_s}
            ],
        },
    }


def admission(name: str, service: ServicePolicy) -> Document:
    """Return the ConfigMap patch that makes a service's pods have the slots that the policy counts with."""
    prefix = f"FLEET_{name.upper()}"
    data = {
        f"{prefix}_SLOTS": str(service.slots),
        f"{prefix}_QUEUE": str(service.queue),
        f"{prefix}_QUEUE_WAIT_S": f"{service.wait_s:g}",
    }
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": f"{name}-settings"},
        "data": data,
    }


def component(resources: list[str]) -> Document:
    """Return a kustomization of kind Component."""
    return {
        "apiVersion": "kustomize.config.k8s.io/v1alpha1",
        "kind": "Component",
        "resources": resources,
    }


def scaled(name: str, service: ServicePolicy, resources: list[str]) -> Document:
    """Return the component of one service: its autoscalers, and Deployments that leave the replicas to these."""
    names = [name, f"{name}-worker"] if service.worker else [name]
    patches = [{"path": "admission.yaml"}, *({"patch": _without_replicas(each)} for each in names)]
    return component(resources) | {"patches": patches}


def _without_replicas(name: str) -> str:
    # A merge with null takes it out where it is, and is nothing where it is not.
    head = f"apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: {name}\n"
    return f"{head}spec:\n  replicas: null\n"


def components(folders: list[str]) -> Document:
    """Return a Component of components."""
    return {
        "apiVersion": "kustomize.config.k8s.io/v1alpha1",
        "kind": "Component",
        "components": folders,
    }
