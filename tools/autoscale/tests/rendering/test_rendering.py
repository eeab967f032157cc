from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from fleet_autoscale.__main__ import main
from fleet_autoscale.policy import DEFAULT_PATH, Policy, load
from fleet_autoscale.rendering import render, stale, write

ROOT = Path(__file__).parents[4]
POLICY = load()
TEXTS = render(POLICY)
HPA = Path("k8s/components/autoscale-hpa")
KEDA = Path("k8s/components/autoscale-keda")


@cache
def made(path: Path) -> Any:
    return yaml.safe_load(TEXTS[path])


def with_kind(kind: str) -> list[Any]:
    found = [made(path) for path in TEXTS if path.suffix == ".yaml"]
    return [each for each in found if each.get("kind") == kind]


def test_the_committed_files_are_what_the_policy_makes() -> None:
    assert stale(POLICY, ROOT) == []


def test_only_one_services_files_change_with_its_policy(tmp_path: Path) -> None:
    write(POLICY, tmp_path)
    raw = yaml.safe_load(DEFAULT_PATH.read_text())
    raw["services"]["devops"]["slots"] = 12
    changed = stale(Policy.model_validate(raw), tmp_path)
    shared = {
        Path("k8s/components/monitoring/rules/scaling.yaml"),
        Path("k8s/components/autoscale-rules/rules.yaml"),
        Path("docs/scaling.md"),
    }
    assert all("devops" in path.parts for path in changed if path not in shared)
    assert HPA / "devops/hpa.yaml" in changed


@pytest.mark.timeout(30)  # a quarter of a second of YAML, three times: long where coverage looks on
def test_render_writes_and_check_fails_until_it_has(tmp_path: Path) -> None:
    words = ["render", "--root", str(tmp_path)]
    assert CliRunner().invoke(main, [*words, "--check"]).exit_code == 1
    assert "scaling.yaml" in CliRunner().invoke(main, words).output
    checked = CliRunner().invoke(main, [*words, "--check"])
    assert (checked.exit_code, checked.output) == (0, "")


def test_the_table_is_put_between_its_marks_and_the_page_stays(tmp_path: Path) -> None:
    page = tmp_path / "docs/scaling.md"
    page.parent.mkdir()
    page.write_text("# Scaling\n<!-- sizing -->\nold\n<!-- /sizing -->\nafter\n")
    write(POLICY, tmp_path)
    text = page.read_text()
    assert text.startswith("# Scaling\n<!-- sizing -->\n| service |")
    assert text.endswith("<!-- /sizing -->\nafter\n")
    assert "old" not in text


def test_hpas_divide_one_external_figure_by_a_pods_slots() -> None:
    found = {
        each["metadata"]["name"]: each["spec"] for each in with_kind("HorizontalPodAutoscaler")
    }
    assert set(found) == {
        *("gateway", "data", "devops", "aiml"),
        *("data-worker", "aiml-worker"),
    }
    for name, service in POLICY.services.items():
        spec = found[name]
        assert spec["scaleTargetRef"]["name"] == name
        assert (spec["minReplicas"], spec["maxReplicas"]) == (service.floor, POLICY.maximum(name))
        (metric,) = spec["metrics"]
        assert metric["external"]["metric"]["selector"]["matchLabels"] == {"service": name}
        assert metric["external"]["target"] == {
            "type": "AverageValue",
            "averageValue": str(service.slots),
        }


def test_the_adapter_serves_every_metric_that_an_hpa_asks_for() -> None:
    served = {rule["name"]["as"] for rule in made(HPA / "prometheus-adapter.yaml")["externalRules"]}
    asked = {
        metric["external"]["metric"]["name"]
        for each in with_kind("HorizontalPodAutoscaler")
        for metric in each["spec"]["metrics"]
    }
    assert served == asked


def test_no_trigger_of_keda_takes_silence_for_no_demand() -> None:
    found = with_kind("ScaledObject")
    assert len(found) == 6
    for each in found:
        spec = each["spec"]
        assert spec["fallback"]["behavior"] == "currentReplicasIfHigher"
        assert spec["fallback"]["replicas"] == spec["minReplicaCount"]
        for trigger in spec["triggers"]:
            assert trigger["metricType"] == "AverageValue"
            assert trigger["metadata"]["ignoreNullValues"] == "false"


def test_only_what_may_be_idle_goes_to_zero_and_a_held_call_wakes_it() -> None:
    found = {each["metadata"]["name"]: each["spec"] for each in with_kind("ScaledObject")}
    to_zero = {name for name, spec in found.items() if "idleReplicaCount" in spec}
    assert to_zero == {"aiml", "data-worker", "aiml-worker"}
    queries = [trigger["metadata"]["query"] for trigger in found["aiml"]["triggers"]]
    assert any('mcp_gateway_held{dep="aiml"' in query for query in queries)


@pytest.mark.parametrize("folder", [HPA, KEDA])
def test_components_name_files_that_are_made_and_patches_agree_with_the_policy(
    folder: Path,
) -> None:
    top = made(folder / "kustomization.yaml")
    assert top["components"] == list(POLICY.services)
    for name, service in POLICY.services.items():
        component = made(folder / name / "kustomization.yaml")
        paths = [each["path"] for each in component["patches"] if "path" in each]
        named = [*component["resources"], *paths]
        assert all(folder / name / each in TEXTS for each in named)
        data = made(folder / name / "admission.yaml")["data"]
        assert data[f"FLEET_{name.upper()}_SLOTS"] == str(service.slots)


def test_the_schema_knows_every_field_and_refuses_others() -> None:
    path = Path("tools/autoscale/src/fleet_autoscale/policy.schema.json")
    schema = json.loads(TEXTS[path])
    assert schema["$defs"]["ServicePolicy"]["additionalProperties"] is False
    first = DEFAULT_PATH.read_text().splitlines()[0]
    assert re.search(r"\$schema=(\S+)", first)[1] == path.name  # type: ignore[index] # None fails, too
