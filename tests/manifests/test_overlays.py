"""Every overlay, with every component that may be added to it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import combinations, product
from pathlib import Path
from typing import TypeAlias

import pytest
import yaml

from manifest_rules import complaints, workloads
from manifests import Manifest, problem, render

K8S = Path(__file__).parents[2] / "k8s"
FLEETS = sorted(each.parent for each in (K8S / "overlays").glob("*/kustomization.yaml"))
TEAMS = sorted(each.parent for each in (K8S / "overlays").glob("*/*/kustomization.yaml"))
OWN = {"backing-stores", "first-secrets", "qdrant", "embedded-vectors", "laptop"}
"""Components that overlays choose themselves."""
REQUIRED = {"data-files", "data-migrate"}
"""Components that staging and production have, and a cluster to try things on has instead of."""
ONE_OF = (
    ("", "gateway-api", "ingress-nginx"),
    ("", "two-pods", "autoscale-hpa", "autoscale-keda"),
)
COMPONENTS = {each.parent.name for each in (K8S / "components").glob("*/kustomization.yaml")}
ANY = sorted(COMPONENTS - OWN - REQUIRED - {name for group in ONE_OF for name in group})

Choice: TypeAlias = tuple[str, ...]


def is_valid(choice: Choice) -> bool:
    """A cluster to try things on makes its own Secrets, which its tests use; embedded vectors do not scale.

    The driver and the GitHub that it loads are tried together, as `make e2e` adds them.
    """
    overlay, *added = choice
    if ("e2e-driver" in added) != ("github-emulator" in added):
        return False
    makes_secrets = overlay.startswith("local")
    many = {"two-pods", "autoscale-hpa", "autoscale-keda", "autoscale-rules"}
    if overlay == "local-embedded" and many & {*added}:
        return False
    return ("e2e-driver" if not makes_secrets else "external-secrets") not in added


def choices() -> list[Choice]:
    """All valid sets; by default so many of them that each pair of choices occurs."""
    groups = [
        [overlay.name for overlay in FLEETS],
        *([each for each in group if not each or each in COMPONENTS] for group in ONE_OF),
        *(["", each] for each in ANY),
    ]
    valid = [each for each in product(*groups) if is_valid(each)]
    return valid if os.environ.get("FLEET_MANIFESTS") == "all" else [*_covering(valid)]


def _covering(valid: list[Choice]) -> Iterator[Choice]:
    pairs = {choice: set(combinations(enumerate(choice), 2)) for choice in valid}
    missing = set().union(*pairs.values())
    while missing:
        best = max(valid, key=lambda choice: len(pairs[choice] & missing))
        missing -= pairs[best]
        yield best


def namespace_of(overlay: str) -> str:
    text = (K8S / "overlays" / overlay / "kustomization.yaml").read_text()
    return str(yaml.safe_load(text)["namespace"])


def where(manifest: Manifest) -> str | None:
    """Return the namespace a manifest is in, or is."""
    metadata: dict[str, str] = manifest["metadata"]
    return metadata["name"] if manifest["kind"] == "Namespace" else metadata.get("namespace")


def name(choice: Choice) -> str:
    return "+".join(each for each in choice if each)


@pytest.mark.parametrize("choice", choices(), ids=name)
def test_a_fleet_with_any_valid_components_is_deployable(choice: Choice, tmp_path: Path) -> None:
    overlay, *added = choice
    chosen = {
        "namespace": namespace_of(overlay),
        "resources": [os.path.relpath(K8S / "overlays" / overlay, tmp_path)],
        "components": [
            os.path.relpath(K8S / "components" / each, tmp_path) for each in added if each
        ],
    }
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(chosen))
    manifests = render(tmp_path)
    assert [found for each in manifests if (found := problem(each))] == []
    assert complaints(manifests) == []
    assert {where(each) for each in manifests} == {namespace_of(overlay)}


CPU = {"": 1.0, "m": 1e-3}
MEMORY = {"Mi": 1 / 1024, "Gi": 1.0}


def amount(text: object, units: dict[str, float]) -> float:
    number = str(text).rstrip("".join(units))
    return float(number) * units[str(text).removeprefix(number)]


def test_the_local_fleet_fits_on_a_laptop_with_two_of_each_server() -> None:
    cpu = memory = 0.0
    for each in workloads(render(K8S / "overlays/local")):
        is_server = each.labels.get("app.kubernetes.io/component") == "server"
        asked = each.spec["containers"][0]["resources"]["requests"]
        cpu += (1 + is_server) * amount(asked["cpu"], CPU)
        memory += (1 + is_server) * amount(asked["memory"], MEMORY)
    assert cpu <= 4
    assert memory <= 8


@pytest.mark.parametrize("folder", TEAMS, ids=lambda folder: "/".join(folder.parts[-2:]))
def test_a_team_deploys_its_service_alone(folder: Path) -> None:
    manifests = render(folder)
    assert [found for each in manifests if (found := problem(each))] == []
    assert complaints(manifests) == []
    owners = {
        each["metadata"].get("labels", {}).get("app.kubernetes.io/name") for each in manifests
    }
    others = {"gateway", "data", "devops", "aiml"} - {folder.name.removesuffix("-gpu")}
    assert not owners & others
