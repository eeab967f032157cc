"""Every pod of the local overlay, started here as a process: what would not come up on a cluster fails here."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

import pytest

from fleet_autoscale.policy import load
from local_node import Node

pytestmark = [pytest.mark.e2e, pytest.mark.blocking]

PODS = ("data", "data-worker", "devops", "aiml", "aiml-worker", "gateway")
POLICY = load()
CATALOGUE = json.loads((files("fleet_cli") / "catalogue.json").read_text())
TOOLS = {each["name"] for each in CATALOGUE} - {"fleet_find_tools", "fleet_call_tool"}


def drive(node: Node, *words: str) -> Any:
    """Run the driver of `make e2e` in its pod."""
    node.added["e2e-driver"] = {"E2E_GATEWAY": node.pods["gateway"].url}
    done = node.execute("e2e-driver", "python3", "/scripts/drive.py", *words)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_every_pod_of_ours_becomes_ready_and_is_scraped_at_its_address(node: Node) -> None:
    for name in PODS:
        pod = node.pods[name]
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            pod.become(probe)
        notes = pod.workload.template["metadata"]["annotations"]
        assert notes["prometheus.io/port"] == str(pod.port)
        service, _, is_worker = name.partition("-")
        slots = POLICY.services[service].slots if not is_worker else 0
        assert f'mcp_admission_limit{{service="{service}"}} {slots:.1f}' in pod.get("/metrics").text


def test_stores_are_opened_by_the_passwords_in_the_addresses_of_services(node: Node) -> None:
    secrets = node.secrets
    owner = urlsplit(secrets["data-migrator"]["FLEET_DATA_MIGRATOR_URL"])
    redis = urlsplit(secrets["data"]["FLEET_DATA_REDIS_URL"])
    postgres = node.variables("postgres")
    assert postgres["POSTGRES_PASSWORD"] == owner.password
    assert f"/{postgres['POSTGRES_DB']}" == owner.path
    assert node.variables("redis")["REDISCLI_AUTH"] == redis.password
    key = node.variables("qdrant")["QDRANT__SERVICE__API_KEY"]
    assert key == secrets["aiml"]["FLEET_AIML_QDRANT_API_KEY"]


def test_the_driver_reaches_every_service_in_both_eras(node: Node) -> None:
    found = drive(node, "check")
    for era in ("auto", "legacy"):
        assert found[era]["tools"] == len(TOOLS), found
        # Without an API server there are no pods to list.
        assert found[era]["calls"] == {"data": True, "devops": False, "aiml": True}


@pytest.mark.parametrize("service", ["data", "devops"])
def test_the_driver_loads_a_service_and_says_what_became_of_its_calls(
    service: str, node: Node
) -> None:
    found = drive(node, "load", service, "2", "4")
    assert found["outcomes"].keys() <= {"ok", "told"}, found
    assert found["outcomes"]["ok"] > 4, found
