"""`make e2e`, as far as it goes without a cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import e2e
from manifests import render, title

ROOT = Path(__file__).parents[2]


def test_without_a_cluster_it_skips_and_says_so(tmp_path: Path) -> None:
    environment = {**os.environ, "KUBECONFIG": str(tmp_path / "none")}
    environment.pop("KUBERNETES_SERVICE_HOST", None)
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/e2e.py"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "e2e: SKIPPED, the current kube context reaches no cluster\n"


def test_it_deploys_the_local_overlay_and_its_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_E2E_LOAD", "registry:registry.example.com/team")
    monkeypatch.delenv("METRICS", raising=False)
    with e2e.chosen_manifests() as folder:
        manifests = render(folder)
    wanted = {"Deployment/data", "Deployment/e2e-driver", "Deployment/github-emulator"}
    assert wanted <= {title(each) for each in manifests}
    assert "image: registry.example.com/team/fleet/data:" in yaml.safe_dump_all(manifests)


def test_images_are_brought_by_the_given_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FLEET_E2E_LOAD", f"cmd:echo $IMG >> {tmp_path}/brought")
    monkeypatch.delenv("METRICS", raising=False)
    with e2e.chosen_manifests() as folder:
        assert e2e.load_images(folder).startswith("4 images, cmd")
    brought = (tmp_path / "brought").read_text().split()
    assert [each.split(":")[0] for each in brought] == [
        f"fleet/{name}" for name in ("aiml", "data", "devops", "gateway")
    ]


def test_a_part_that_fails_is_reported_and_the_others_go_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fails() -> str:
        raise e2e.Failed("data did not grow")

    assert not e2e._part("scales", fails)
    assert e2e._part("clients", lambda: "auto: 66 tools")
    assert capsys.readouterr().out == (
        "  FAIL  scales: data did not grow\n  ok    clients: auto: 66 tools\n"
    )
