"""Dashboards are what Grafana understands, by its own model, and all of them reach a cluster."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard as GrafanaDashboard

from fleet_autoscale.dashboards import dashboards
from fleet_autoscale.dashboards.grid import Dashboard
from fleet_autoscale.policy import load

MONITORING = Path(__file__).parents[3] / "k8s" / "components" / "monitoring"
PAGES = dashboards(load())


@pytest.fixture(scope="module", autouse=True)
def plugins() -> None:
    """Let the model know the options of each kind of panel."""
    register_default_plugins()


def lost(ours: Any, theirs: Any, at: str = "") -> Iterator[str]:
    """Return the places of what Grafana's model did not keep."""
    if isinstance(ours, dict):
        kept = theirs if isinstance(theirs, dict) else {}
        for key, value in ours.items():
            yield from lost(value, kept[key], f"{at}.{key}") if key in kept else [f"{at}.{key}"]
    elif isinstance(ours, list):
        kept_items = theirs if isinstance(theirs, list) and len(theirs) == len(ours) else None
        if kept_items is None:
            yield at
        for number, (value, kept_value) in enumerate(zip(ours, kept_items or (), strict=False)):
            yield from lost(value, kept_value, f"{at}[{number}]")
    elif ours != theirs:
        yield at


def through_grafana(document: dict[str, Any]) -> Any:
    return json.loads(JSONEncoder().encode(GrafanaDashboard.from_json(document)))


@pytest.mark.parametrize("page", PAGES, ids=[page.uid for page in PAGES])
def test_grafanas_own_model_keeps_every_word(page: Dashboard) -> None:
    assert list(lost(page.document(), through_grafana(page.document()))) == []


def test_a_word_that_grafana_does_not_know_is_found() -> None:
    document = PAGES[0].document()
    document["panels"][1]["gridpos"] = {"h": 3}
    document["panels"][1]["options"]["colourMode"] = "value"
    found = [*lost(document, through_grafana(document))]
    assert found == [".panels[1].options.colourMode", ".panels[1].gridpos"]


@pytest.mark.parametrize("page", PAGES, ids=[page.uid for page in PAGES])
def test_panels_have_their_own_place_and_fill_the_width(page: Dashboard) -> None:
    panels = page.document()["panels"]
    places = [panel["gridPos"] for panel in panels]
    taken = [
        (x, y)
        for p in places
        for x in range(p["x"], p["x"] + p["w"])
        for y in range(p["y"], p["y"] + p["h"])
    ]
    assert len(taken) == len(set(taken))
    assert {
        max(p["x"] + p["w"] for p in places if p["y"] == top) for top in {p["y"] for p in places}
    } == {24}
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_each_page_reaches_a_cluster_under_its_own_name() -> None:
    kustomization = yaml.safe_load((MONITORING / "kustomization.yaml").read_text("utf-8"))
    files = [file for each in kustomization["configMapGenerator"] for file in each["files"]]
    assert files == [f"dashboards/{page.uid}.json" for page in PAGES]
    assert kustomization["generatorOptions"]["labels"] == {"grafana_dashboard": "1"}
    assert len({page.title for page in PAGES}) == len(PAGES)
