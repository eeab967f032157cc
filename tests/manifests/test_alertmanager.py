"""Whom Alertmanager tells, and what it keeps quiet about, as Alertmanager itself decides."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from fleet_cli.engines.freeport import free_port

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "docker" / "alertmanager.yml"
ALERTS = {
    rule["alert"]
    for group in yaml.safe_load((ROOT / "k8s/components/monitoring/rules/alerts.yaml").read_text())[
        "groups"
    ]
    for rule in group["rules"]
    if "alert" in rule
}
SECRETS = (
    "/etc/alertmanager/secrets/fleet-alertmanager"  # where compose.yaml and the operator mount them
)
AMTOOL = shutil.which("amtool")
SERVER = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")
amtool = pytest.mark.skipif(
    AMTOOL is None, reason="amtool is not in PATH (Debian: prometheus-alertmanager)"
)


def ran(*words: str) -> subprocess.CompletedProcess[str]:
    assert AMTOOL is not None
    return subprocess.run([AMTOOL, *words], capture_output=True, text=True, check=False)


@amtool
def test_the_configuration_is_accepted() -> None:
    checked = ran("check-config", str(CONFIG))
    assert checked.returncode == 0, checked.stdout + checked.stderr


@amtool
@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        ("service=data severity=critical", "data-pager"),
        ("service=data severity=warning", "data-channel"),
        ("service=devops severity=critical", "devops-pager"),
        ("service=aiml severity=warning", "aiml-channel"),
        ("service=gateway severity=critical", "platform-pager"),
        ("service=gateway severity=warning", "platform-channel"),
        ("severity=critical", "platform-pager"),
        ("alertname=Whatever", "platform-channel"),
    ],
)
def test_an_alert_reaches_its_team(labels: str, receiver: str) -> None:
    words = (
        "config",
        "routes",
        "test",
        f"--config.file={CONFIG}",
        f"--verify.receivers={receiver}",
    )
    tested = ran(*words, *labels.split())
    assert tested.returncode == 0, tested.stdout


def test_what_is_silenced_are_alerts_that_exist() -> None:
    rules = yaml.safe_load(CONFIG.read_text())["inhibit_rules"]
    matchers = [m for rule in rules for m in rule["source_matchers"] + rule["target_matchers"]]
    named = {
        name
        for matcher in matchers
        if matcher.startswith("alertname")
        for name in matcher.split('"')[1].split("|")
    }
    assert named <= ALERTS


def test_secrets_come_from_files_and_nobody_else_is_told() -> None:
    text = CONFIG.read_text()
    assert not re.search(r"(api_url|routing_key|service_key|password|credentials): ", text)
    receivers = yaml.safe_load(text)["receivers"]
    pagers = [each for each in receivers if "pagerduty_configs" in each]
    assert {each["name"] for each in pagers} == {
        f"{team}-pager" for team in ("platform", "data", "devops", "aiml")
    }
    for each in pagers:
        team = each["name"].removesuffix("-pager")
        (pager,) = each["pagerduty_configs"]
        assert pager["routing_key_file"] == f"{SECRETS}/pagerduty-{team}"
        assert each["slack_configs"][0]["channel"] == f"#fleet-{team}"


@pytest.fixture
def alertmanager(tmp_path: Path) -> Iterator[httpx.Client]:
    """A running Alertmanager; nothing it tells anybody arrives before its group has waited."""
    if SERVER is None:
        pytest.skip("alertmanager is not in PATH (Debian: prometheus-alertmanager)")
    port = free_port()
    words = [
        f"--config.file={CONFIG}",
        f"--storage.path={tmp_path}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([SERVER, *words], stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
            ends = time.monotonic() + 30
            while not is_ready(client):
                assert time.monotonic() < ends, (tmp_path / "log").read_text()
                time.sleep(0.05)
            yield client
    finally:
        process.terminate()
        process.wait(10)


def is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/-/ready").status_code == 200
    except httpx.TransportError:
        return False


def alert(name: str, service: str, severity: str = "warning") -> dict[str, Any]:
    labels = {"alertname": name, "service": service, "severity": severity, "namespace": "n"}
    ends = datetime.now(UTC) + timedelta(minutes=5)
    return {"labels": labels, "annotations": {}, "endsAt": ends.isoformat()}


def test_a_cause_silences_its_symptoms_and_nobody_elses(alertmanager: httpx.Client) -> None:
    fire = [
        alert("ServiceDown", "data", "critical"),
        alert("CallsShed", "data"),
        alert("CallsShed", "devops"),
        alert("DependencyAway", "aiml", "critical"),
        alert("CallsSlow", "aiml"),
        alert("BreakerOpen", "aiml"),
        alert("LatencyBurn", "devops", "critical"),
        alert("LatencyBurn", "devops"),
    ]
    alertmanager.post("/api/v2/alerts", json=fire).raise_for_status()
    shown = alertmanager.get("/api/v2/alerts").json()
    heard = {
        (each["labels"]["alertname"], each["labels"]["service"], each["labels"]["severity"])
        for each in shown
        if not each["status"]["inhibitedBy"]
    }
    assert len(shown) == len(fire)
    assert heard == {
        ("ServiceDown", "data", "critical"),
        ("CallsShed", "devops", "warning"),
        ("DependencyAway", "aiml", "critical"),
        ("BreakerOpen", "aiml", "warning"),
        ("LatencyBurn", "devops", "critical"),
    }
