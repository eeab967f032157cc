"""docker/compose.yaml tells services what they can be told, and runs them as the cluster does."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

DOCKER = Path(__file__).parents[2] / "docker"
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text("utf-8"))
OURS = ("gateway", "data", "data-worker", "devops", "aiml", "aiml-worker")


@pytest.mark.parametrize("name", OURS)
def test_every_variable_is_a_setting_of_the_service(name: str) -> None:
    service = name.removesuffix("-worker")
    fields = import_module(f"fleet_{service}.server").SERVICE.settings.model_fields
    prefix = f"FLEET_{service.upper()}_"
    told = {each.removeprefix(prefix).lower() for each in COMPOSE["services"][name]["environment"]}
    assert told - fields.keys() == set()


@pytest.mark.parametrize("name", OURS)
def test_a_service_writes_nothing_but_its_volumes_and_gains_nothing(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["image"].startswith(f"fleet/{name.removesuffix('-worker')}:")


def test_nothing_is_reachable_from_other_machines() -> None:
    ports = [port for each in COMPOSE["services"].values() for port in each.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_prometheus_scrapes_every_process() -> None:
    config = yaml.safe_load((DOCKER / "prometheus.yml").read_text("utf-8"))
    (job,) = config["scrape_configs"]
    targets = {target.split(":")[0] for each in job["static_configs"] for target in each["targets"]}
    assert targets == {*OURS}


def test_whatever_is_mounted_from_here_is_there() -> None:
    volumes = [
        volume for each in COMPOSE["services"].values() for volume in each.get("volumes", [])
    ]
    ours = [volume.split(":")[0] for volume in volumes if volume.startswith(".")]
    assert len(ours) == 7
    assert [each for each in ours if not (DOCKER / each).exists()] == []


def test_prometheus_says_of_whose_service_a_target_is() -> None:
    (job,) = yaml.safe_load((DOCKER / "prometheus.yml").read_text("utf-8"))["scrape_configs"]
    for each in job["static_configs"]:
        owners = {target.split(":")[0].removesuffix("-worker") for target in each["targets"]}
        assert owners == {each["labels"]["service"]}
