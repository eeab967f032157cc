"""Prometheus for tests: the real one where there is a binary, and recorded answers everywhere."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from fleet_devops.monitoring.models import Answer
from fleet_devops.monitoring.window import Window

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
SERIES = 30
# Half an hour of samples, one a minute; series N counts up by N each minute.
_STEPS = 30


@dataclass(slots=True)
class FakeMetrics:
    """Answers every question with what it was given, and remembers the questions."""

    answer: Answer = field(default_factory=lambda: Answer([], []))
    asked: list[tuple[str, datetime | Window]] = field(default_factory=list)

    async def instant(self, promql: str, at: datetime) -> Answer:
        self.asked.append((promql, at))
        return self.answer

    async def over(self, promql: str, window: Window) -> Answer:
        self.asked.append((promql, window))
        return self.answer


@pytest.fixture
def metrics() -> FakeMetrics:
    return FakeMetrics()


@pytest.fixture(scope="session")
def prometheus_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the URL of a real Prometheus that holds `jobs_total` of 30 series around `NOW`."""
    binary = os.environ.get("FLEET_TEST_PROMETHEUS") or shutil.which("prometheus")
    if binary is None:
        pytest.skip("no prometheus in PATH (Debian: prometheus) and FLEET_TEST_PROMETHEUS not set")
    folder = tmp_path_factory.mktemp("prometheus")
    _load(binary, folder)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    (folder / "config.yml").write_text("scrape_configs: []\n")
    options = {
        "config.file": folder / "config.yml",
        "storage.tsdb.path": folder / "data",
        "storage.tsdb.retention.time": "100y",
        "web.listen-address": f"127.0.0.1:{port}",
    }
    process = subprocess.Popen(
        [binary, *(f"--{name}={value}" for name, value in options.items())],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_until_ready(url, process)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=5)


def _load(binary: str, folder: Path) -> None:
    promtool = Path(binary).with_name("promtool")
    lines = ["# TYPE jobs counter"]
    for number in range(1, SERIES + 1):
        for step in range(_STEPS + 1):
            at = NOW.timestamp() - (_STEPS - step) * 60
            labels = f'job="demo",shard="{number}"'
            lines.append(f"jobs_total{{{labels}}} {step * number} {at}")
    samples = folder / "samples.txt"
    samples.write_text("\n".join([*lines, "# EOF", ""]))
    verb = ["tsdb", "create-blocks-from", "openmetrics"]
    command = [str(promtool), *verb, str(samples), str(folder / "data")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=9)


def _wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    ends_at = time.monotonic() + 8
    while time.monotonic() < ends_at and process.poll() is None:
        try:
            if httpx.get(f"{url}/-/ready").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise RuntimeError(f"Prometheus did not start (exit status {process.poll()})")
