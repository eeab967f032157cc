"""Each rule finds what it is there for: one manifest of a good fleet is spoiled, and the complaint names it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from manifest_rules import complaints
from manifests import BadKustomization, Manifest, problem, render

PRODUCTION = Path(__file__).parents[2] / "k8s" / "overlays" / "production"


@pytest.fixture(scope="module")
def good() -> list[Manifest]:
    return render(PRODUCTION)


def pick(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    (found,) = [e for e in manifests if (e["kind"], e["metadata"]["name"]) == (kind, name)]
    return found


def pod(manifests: list[Manifest]) -> Any:
    return pick(manifests, "Deployment", "data")["spec"]["template"]["spec"]


def set_in(value: object, *path: str) -> Callable[[list[Manifest]], None]:
    """Return what sets a place in the first container of the Deployment `data`."""

    def spoil(manifests: list[Manifest]) -> None:
        place = pod(manifests)["containers"][0]
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return spoil


def in_pod(key: str, value: object) -> Callable[[list[Manifest]], None]:
    return lambda manifests: pod(manifests).__setitem__(key, value)


def without(kind: str, name: str) -> Callable[[list[Manifest]], None]:
    return lambda manifests: manifests.remove(pick(manifests, kind, name))


def with_rule(manifests: list[Manifest]) -> None:
    role = pick(manifests, "Role", "gateway")
    role["rules"].append({"apiGroups": [""], "resources": ["secrets"], "verbs": ["*"]})


def with_name_of_a_config_map(manifests: list[Manifest]) -> None:
    names = {
        "apiGroups": [""],
        "resources": ["secrets"],
        "resourceNames": ["data-7fctc585m9"],
        "verbs": ["get"],
    }
    manifests.append({"kind": "Role", "metadata": {"name": "maker"}, "rules": [names]})


def with_autoscaler(manifests: list[Manifest]) -> None:
    target = {"scaleTargetRef": {"name": "data"}}
    pick(manifests, "Deployment", "data")["spec"]["replicas"] = 2
    manifests.append(
        {"kind": "HorizontalPodAutoscaler", "metadata": {"name": "data"}, "spec": target}
    )


def with_route(manifests: list[Manifest]) -> None:
    rule = {
        "matches": [{"path": {"value": "/metrics"}}],
        "backendRefs": [{"name": "door", "port": 1}],
    }
    manifests.append({"kind": "HTTPRoute", "metadata": {"name": "way"}, "spec": {"rules": [rule]}})


def with_other_selector(manifests: list[Manifest]) -> None:
    pick(manifests, "Service", "data")["spec"]["selector"]["app.kubernetes.io/name"] = "date"


SPOILED: list[tuple[Callable[[list[Manifest]], None], str]] = [
    (in_pod("securityContext", {}), "data: may run as root"),
    (in_pod("securityContext", {"runAsNonRoot": True}), "data: has no seccomp profile"),
    (in_pod("hostPID", True), "data: shares the host's namespaces"),
    (in_pod("volumes", [{"name": "x", "hostPath": {}}]), "data: mounts a path of the host"),
    (in_pod("automountServiceAccountToken", True), "data: automountServiceAccountToken is True"),
    (in_pod("serviceAccountName", "date"), "data: there is no ServiceAccount date"),
    (
        in_pod("terminationGracePeriodSeconds", 30),
        "data: terminationGracePeriodSeconds is under 320",
    ),
    (set_in({}, "securityContext"), "data/data: may write to its image"),
    (set_in({}, "securityContext"), "data/data: may gain privileges"),
    (set_in({}, "securityContext"), "data/data: keeps capabilities"),
    (set_in({}, "resources", "limits"), "data/data: has no memory limit"),
    (set_in({}, "resources", "requests"), "data/data: requests no CPU or memory"),
    (set_in("fleet/data", "image"), "data/data: image fleet/data"),
    (set_in("fleet/data:latest", "image"), "data/data: image fleet/data:latest"),
    (set_in("a.example/data:1", "image"), "data/data: image a.example/data:1"),
    (set_in("Always", "imagePullPolicy"), "data/data: imagePullPolicy"),
    (
        set_in([{"secretRef": {"name": "date"}}], "envFrom"),
        "data: there is no Secret date",
    ),
    (set_in([], "ports"), "Service data: data has no port http"),
    (with_other_selector, "Service data: selects no pod"),
    (without("NetworkPolicy", "data"), "data: no NetworkPolicy of its own"),
    (
        without("PersistentVolumeClaim", "data-files"),
        "data: there is no PersistentVolumeClaim data-files",
    ),
    (with_rule, "Role gateway: has a wildcard"),
    (with_rule, "Role gateway: reads Secrets"),
    (with_name_of_a_config_map, "maker: there is no Secret data-7fctc585m9"),
    (with_autoscaler, "data is scaled and has replicas"),
    (with_route, "HTTPRoute way: /metrics is nobody's business"),
    (with_route, "HTTPRoute way: door:1 is no Service"),
]


@pytest.mark.parametrize(("spoil", "complaint"), SPOILED, ids=[text for _, text in SPOILED])
def test_what_is_spoiled_is_found(
    spoil: Callable[[list[Manifest]], None], complaint: str, good: list[Manifest]
) -> None:
    spoiled = copy.deepcopy(good)
    spoil(spoiled)
    assert complaint in complaints(spoiled)


def test_a_probe_that_is_missing_is_found(good: list[Manifest]) -> None:
    spoiled = copy.deepcopy(good)
    del pod(spoiled)["containers"][0]["readinessProbe"]
    assert complaints(spoiled) == ["data/data: no readinessProbe"]


METADATA = {"name": "x"}


@pytest.mark.parametrize(
    ("manifest", "complaint"),
    [
        (
            {"apiVersion": "v1", "kind": "Service", "metadata": METADATA, "spec": {"port": 1}},
            "Service/x: spec: Additional properties are not allowed ('port' was unexpected)",
        ),
        (
            {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": METADATA},
            "Thing/x: Couldn't find schema for kind Thing with api version example.com/v1",
        ),
        (
            {
                "apiVersion": "monitoring.coreos.com/v1",
                "kind": "PodMonitor",
                "metadata": METADATA,
                "spec": {"selector": {}, "podMetricsEndpoint": []},
            },
            "PodMonitor/x: spec: Additional properties are not allowed ('podMetricsEndpoint'",
        ),
        (
            {
                "apiVersion": "keda.sh/v1alpha1",
                "kind": "ScaledObject",
                "metadata": METADATA,
                "spec": {"scaleTargetRef": {"name": "data"}, "triggers": [{"type": "prometheus"}]},
            },
            "ScaledObject/x: spec.triggers.0: 'metadata' is a required property",
        ),
    ],
    ids=["core", "unknown", "custom", "custom-required"],
)
def test_a_manifest_that_does_not_fit_its_schema_is_refused(
    manifest: Manifest, complaint: str
) -> None:
    assert (problem(manifest) or "").startswith(complaint)


def test_a_kustomization_that_cannot_be_rendered_says_why(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text("resources: [nowhere]\n")
    with pytest.raises(BadKustomization, match="nowhere"):
        render(tmp_path)
