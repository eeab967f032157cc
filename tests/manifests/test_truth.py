"""What the manifests say of the services is what the services are."""

from __future__ import annotations

import json
import shutil
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastmcp import FastMCP
from fastmcp.tools import FunctionTool

import release
from fleet_autoscale.policy import load
from fleet_common.mcp import Service
from fleet_common.settings import ServiceSettings
from manifest_rules import OUTSIDE, environment_of, workloads
from manifests import Manifest, render, title
from packages import package

ROOT = Path(__file__).parents[2]
OVERLAYS = ROOT / "k8s" / "overlays"
SERVICES = ("gateway", "data", "devops", "aiml")
# What the Secrets hold, as far as a service does not start without it.
SECRET = {
    "DATABASE_URL": "postgresql://w:w@postgres/crm",
    "READER_URL": "postgresql://r:r@postgres/crm",
    "CLAIMS_KEY": "x" * 32,
}


@pytest.fixture(scope="module", params=["local", "production"])
def fleet(request: pytest.FixtureRequest) -> list[Manifest]:
    return render(OVERLAYS / request.param)


def declared(service: str) -> Service[Any, Any]:
    found: Service[Any, Any] = import_module(f"fleet_{service}.server").SERVICE
    return found


def names(service: str, fleet: list[Manifest]) -> list[str]:
    """Return the names of a service's Deployments."""
    return [
        each["metadata"]["name"]
        for each in fleet
        if each["kind"] == "Deployment"
        and each["metadata"].get("labels", {}).get("app.kubernetes.io/name") == service
    ]


@cache
def tools(service: str) -> list[FunctionTool]:
    server: FastMCP[Any] = FastMCP("manifests")
    found = [server.add_tool(fn) for fn in declared(service).tools]
    return [each for each in found if isinstance(each, FunctionTool)]


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_told_what_it_can_be_told(service: str, fleet: list[Manifest]) -> None:
    prefix, settings = f"FLEET_{service.upper()}_", declared(service).settings
    for name in names(service, fleet):
        told = {k: v for k, v in environment_of(fleet, name).items() if k.startswith("FLEET_")}
        unknown = {
            each.removeprefix(prefix).lower() for each in told
        } - settings.model_fields.keys()
        assert unknown == set()
        secrets = {
            f"{prefix}{k}": v for k, v in SECRET.items() if k.lower() in settings.model_fields
        }
        read: ServiceSettings = settings.read({**told, **secrets})
        assert read.shutdown_grace_s >= 30


@pytest.mark.parametrize("service", SERVICES)
def test_a_server_lets_its_longest_call_end(service: str, fleet: list[Manifest]) -> None:
    grace_s = float(environment_of(fleet, service)[f"FLEET_{service.upper()}_SHUTDOWN_GRACE_S"])
    longest_s = max(tool.timeout or 0.0 for each in SERVICES for tool in tools(each))
    assert grace_s >= longest_s + 5


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_with_tasks_has_workers_and_no_other_has(
    service: str, fleet: list[Manifest]
) -> None:
    has_tasks = any(tool.task_config.mode != "forbidden" for tool in tools(service))
    assert (f"{service}-worker" in names(service, fleet)) is has_tasks


@pytest.mark.parametrize("service", SERVICES)
def test_ports_are_those_of_the_settings(service: str, fleet: list[Manifest]) -> None:
    port = declared(service).settings.model_fields["port"].default
    for each in fleet:
        if each["kind"] == "Service" and each["metadata"]["name"] in {service, f"{service}-pods"}:
            assert each["spec"]["ports"][0]["port"] == port
        if each["kind"] == "Deployment" and each["metadata"]["name"] in names(service, fleet):
            template = each["spec"]["template"]
            assert template["spec"]["containers"][0]["ports"][0]["containerPort"] == port
            assert template["metadata"]["annotations"]["prometheus.io/port"] == str(port)


def test_the_slots_are_what_the_scaling_policy_counts_with(fleet: list[Manifest]) -> None:
    file = ROOT / "tools/autoscale/src/fleet_autoscale/policy.yaml"
    for name, policy in yaml.safe_load(file.read_text("utf-8"))["services"].items():
        told = environment_of(fleet, name)
        for key in ("slots", "queue"):
            assert int(told[f"FLEET_{name.upper()}_{key.upper()}"]) == policy[key], (name, key)
        if "pool" in policy:
            # Two roles, a pool each
            assert 2 * int(told[f"FLEET_{name.upper()}_POOL_SIZE"]) == policy["pool"]["size"]


@pytest.mark.parametrize("service", SERVICES)
def test_a_server_asks_for_what_the_policy_says_that_it_takes(service: str) -> None:
    planned = load().services[service]
    (server,) = [e for e in workloads(render(OVERLAYS / "production")) if e.name == service]
    resources = server.spec["containers"][0]["resources"]
    asked, limit = resources["requests"], resources["limits"]
    assert int(asked["cpu"].removesuffix("m")) == pytest.approx(1e3 * planned.cpu_cores, rel=0.1)
    assert int(asked["memory"].removesuffix("Mi")) == planned.memory_mib
    most = limit["memory"].replace("1Gi", "1024Mi").removesuffix("Mi")
    assert float(most) >= planned.memory_mib
    assert limit.get("cpu") in {None, "2"}


def test_the_readme_names_every_secret_that_pods_mount() -> None:
    readme = (ROOT / "k8s/README.md").read_text("utf-8")
    assert [name for _, name in sorted(OUTSIDE) if f"`{name}`" not in readme] == []


@pytest.mark.parametrize("service", SERVICES)
def test_a_change_of_one_service_changes_its_own_manifests_only(
    service: str, tmp_path: Path
) -> None:
    shutil.copytree(ROOT / "k8s", tmp_path / "k8s")
    base = tmp_path / "k8s/base" / service
    kustomization, config = base / "kustomization.yaml", base / "config.env"

    def rendered() -> set[tuple[str, str]]:
        manifests = render(tmp_path / "k8s/overlays/production")
        return {(title(each), json.dumps(each)) for each in manifests}

    before = rendered()
    kustomization.write_text(release.set_version(kustomization.read_text(), "9.9.9", key="newTag"))
    config.write_text(f"{config.read_text()}FLEET_{service.upper()}_LOG_LEVEL=DEBUG\n")
    changed = {name for name, _ in before ^ rendered()}
    assert f"Deployment/{service}" in changed
    own = {service, f"{service}-worker", f"{service}-migrate-{package(service).version}"}
    own |= {f"{service}-migrate-9.9.9"}
    generated = {name for name in changed if name.startswith(f"ConfigMap/{service}-")}
    assert {name.split("/")[1] for name in changed - generated} <= own
