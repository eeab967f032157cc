"""What `make e2e` would apply, and what it makes of what the API server says."""

from __future__ import annotations

from typing import Any

import pytest

import e2e
from manifest_rules import complaints, environment_of, workloads
from manifests import Manifest, problem, render


def scaled(fleet: list[Manifest]) -> dict[str, set[float]]:
    """Return what each autoscaled workload's metrics aim at, for one pod."""
    found = {}
    for each in fleet:
        if each["kind"] == "HorizontalPodAutoscaler":
            targets = [m["external"]["target"]["averageValue"] for m in each["spec"]["metrics"]]
        elif each["kind"] == "ScaledObject":
            targets = [trigger["metadata"]["threshold"] for trigger in each["spec"]["triggers"]]
        else:
            continue
        found[each["spec"]["scaleTargetRef"]["name"]] = set(map(float, targets))
    return found


@pytest.mark.parametrize("metrics", [None, *e2e.SCALERS])
def test_what_is_applied_is_valid_and_aims_at_the_slots_that_pods_have(
    metrics: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEET_E2E_PROMETHEUS", "http://elsewhere:9090")
    if metrics:
        monkeypatch.setenv("METRICS", metrics)
    with e2e.chosen_manifests() as folder:
        fleet = render(folder)
    assert [found for each in fleet if (found := problem(each))] == []
    assert complaints(fleet) == []
    assert {"github-emulator", "e2e-driver"} <= {each.name for each in workloads(fleet)}
    asked = {
        trigger["metadata"]["serverAddress"]
        for each in fleet
        if each["kind"] == "ScaledObject"
        for trigger in each["spec"]["triggers"]
    }
    assert asked == ({"http://elsewhere:9090"} if metrics == "keda" else set())
    targets = scaled(fleet)
    assert (e2e.SLOTS.keys() <= targets.keys()) is bool(metrics)
    for name in e2e.SLOTS if metrics else ():
        told = environment_of(fleet, name)
        assert targets[name] == {float(told[f"FLEET_{name.upper()}_SLOTS"])} == {e2e.SLOTS[name]}


def hpa(status: str, reason: str, **more: Any) -> dict[str, Any]:
    condition = {"type": "ScalingActive", "status": status, "reason": reason}
    return {
        "metadata": {"name": "data"},
        "spec": {"scaleTargetRef": {"name": "data"}, "minReplicas": 1},
        "status": {"conditions": [condition], **more},
    }


def test_an_autoscaler_is_waited_for_until_it_reads_its_metric() -> None:
    reading = {"current": {"averageValue": "2700m"}, "metric": {"name": "fleet_required_slots"}}
    metrics = [{"type": "External", "external": reading}]
    found = e2e.Autoscaler.of(hpa("True", "ValidMetricFound", currentMetrics=metrics))
    assert (found.can_read, found.reading, found.floor) == (True, "2700m", 1)
    assert not e2e.Autoscaler.of(hpa("False", "FailedGetExternalMetric")).can_read
    assert e2e.Autoscaler.of(hpa("False", "ScalingDisabled")).can_read  # no pods, KEDA looks
    assert not e2e.Autoscaler.of({**hpa("", ""), "status": {"currentMetrics": None}}).can_read
