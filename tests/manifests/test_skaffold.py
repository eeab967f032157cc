"""skaffold.yaml, held to its schema, and to deploying what the overlays say."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

# It has no types.
import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from manifest_rules import workloads
from manifests import render, title

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "k8s/schemas/skaffold_v4beta14.json").read_text("utf-8"))
MODULES = {
    "platform": ROOT / "k8s",
    **{name: ROOT / "services" / name for name in ("gateway", "data", "devops", "aiml")},
}


rendered = cache(render)  # several tests look at the same folder


def read(folder: Path) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((folder / "skaffold.yaml").read_text("utf-8"))
    return config


def layers(config: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the configuration and its profiles, which hold the same things."""
    return [config, *config.get("profiles", [])]


def folders(name: str, profile: str | None = None) -> list[Path]:
    """Return what a module deploys."""
    config = read(MODULES[name])
    chosen = [
        each for each in layers(config) if each.get("name") == profile and "manifests" in each
    ]
    paths = (chosen or [config])[0]["manifests"]["kustomize"]["paths"]
    return [(MODULES[name] / path).resolve() for path in paths]


@pytest.mark.parametrize("folder", [ROOT, *MODULES.values()], ids=lambda folder: folder.name)
def test_a_configuration_fits_the_schema(folder: Path) -> None:
    jsonschema.Draft7Validator(SCHEMA).validate(read(folder))


def test_the_root_requires_every_module_with_the_profiles_it_has() -> None:
    required = read(ROOT)["requires"]
    assert {ROOT / each["path"]: each["configs"] for each in required} == {
        folder: [name] for name, folder in MODULES.items()
    }
    for each in required:
        known = {profile["name"] for profile in read(ROOT / each["path"])["profiles"]}
        assert {profile["name"] for profile in each["activeProfiles"]} == known


@pytest.mark.parametrize("name", MODULES)
def test_what_is_built_is_what_is_deployed(name: str) -> None:
    config = read(MODULES[name])
    for layer in layers(config):
        artifacts = layer.get("build", {}).get("artifacts", [])
        if not artifacts:
            continue
        built = {each["image"] for each in artifacts}
        for folder in folders(name, layer.get("name")):
            pods = [each for each in workloads(rendered(folder)) if each.name.startswith(name)]
            images = {c["image"].split(":")[0] for pod in pods for c in pod.containers}
            assert images == built
        for each in artifacts:
            context = (MODULES[name] / each["context"]).resolve()
            assert context == ROOT
            assert (context / each["docker"]["dockerfile"]).exists()


@pytest.mark.parametrize("profile", ["local", "production"])
def test_all_modules_together_deploy_the_overlay(profile: str) -> None:
    parts = [
        title(each)
        for name in MODULES
        for path in folders(name, profile)
        for each in rendered(path)
    ]
    assert sorted(parts) == sorted(
        title(each) for each in rendered(ROOT / "k8s/overlays" / profile)
    )
