"""Every expression that somebody is woken, scaled or shown by finds something in a fleet that works.

A real Prometheus scrapes the services of a running fleet; each expression of the repository is asked until it answers.
What needs a cluster is scraped from a recorded file, recorded/cluster.prom.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

import httpx
import pytest
import yaml

import promql
from fleet_cli.engines.freeport import free_port
from fleet_common.testing.wire import answer, modern

pytestmark = pytest.mark.blocking

RECORDED = Path(__file__).parent / "recorded"
WITHIN_S = 60.0
CALLS: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "data": [
        ("crm_search", {"object": "contact", "query": "maria"}),
        ("crm_get", {"object": "contact", "ids": [str(uuid4())]}),
        ("db_query", {"sql": "SELECT pg_read_file('/etc/passwd')"}),
    ],
    "devops": [("gh_file_read", {"owner": "admin", "repo": "shop", "path": "hello.txt"})],
    "aiml": [("embed_texts", {"texts": ["hello"]})],
    "gateway": [("fleet_status", {})],
}


class Fleet(Protocol):
    """What the fixture `fleet` gives (see conftest.py)."""

    urls: dict[str, str]

    def origin(self, service: str) -> str: ...
    def http(self, service: str = "gateway", **headers: str) -> httpx.Client: ...


class _Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def recorded() -> Iterator[str]:
    """Serve the recorded file; yield its host and port."""
    handler = partial(_Silent, directory=str(RECORDED))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def configured(fleet: Fleet, cluster: str, folder: Path) -> Path:
    """Write the configuration of a Prometheus that scrapes and evaluates every second, and return its path."""
    for path in promql.RULES.glob("*.yaml"):
        rules = yaml.safe_load(path.read_text("utf-8"))
        for group in rules["groups"]:
            group["interval"] = "1s"
        (folder / path.name).write_text(yaml.safe_dump(rules))
    services = [
        {
            "targets": [fleet.origin(name).removeprefix("http://")],
            "labels": {"namespace": "mcp-fleet", "service": name},
        }
        for name in fleet.urls
    ]
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [f"{folder}/*.yaml"],
        "scrape_configs": [
            {"job_name": "mcp-fleet", "honor_labels": True, "static_configs": services},
            {
                "job_name": "recorded",
                "honor_labels": True,
                "metrics_path": "/cluster.prom",
                "static_configs": [{"targets": [cluster], "labels": {"namespace": "mcp-fleet"}}],
            },
        ],
    }
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture
def prometheus(fleet: Fleet, tmp_path: Path) -> Iterator[httpx.Client]:
    """A Prometheus that watches the fleet."""
    binary = os.environ.get("FLEET_TEST_PROMETHEUS") or shutil.which("prometheus")
    if binary is None:
        pytest.skip("no prometheus in PATH (Debian: prometheus) and FLEET_TEST_PROMETHEUS not set")
    port = free_port()
    with recorded() as cluster:
        words = [
            f"--config.file={configured(fleet, cluster, tmp_path)}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        with (tmp_path / "log").open("wb") as log:
            process = subprocess.Popen([binary, *words], stdout=log, stderr=log)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
                wait_until_ready(client, process, tmp_path / "log")
                yield client
        finally:
            process.terminate()
            process.wait(10)


def wait_until_ready(client: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    ends = time.monotonic() + WITHIN_S
    while time.monotonic() < ends and process.poll() is None:
        try:
            if client.get("/-/ready").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError(log.read_text()[-2000:])


def call_everything(fleet: Fleet, times: int) -> None:
    """Call tools of every service through the gateway, so that rates have something to rise."""
    with fleet.http() as http:
        for _ in range(times):
            for tool, arguments in [each for calls in CALLS.values() for each in calls]:
                response = http.post("/mcp", **modern("tools/call", tool, arguments=arguments))
                assert "result" in answer(response)


def asked(prometheus: httpx.Client, expressions: dict[str, str]) -> dict[str, str]:
    """Return those that find nothing."""
    return {
        where: expr for where, expr in expressions.items() if not promql.found(prometheus, expr)
    }


def test_every_expression_finds_something(fleet: Fleet, prometheus: httpx.Client) -> None:
    call_everything(fleet, 1)
    empty, ends = promql.expressions(), time.monotonic() + WITHIN_S
    assert len(empty) > 250
    while empty and time.monotonic() < ends:
        call_everything(fleet, 4)
        empty = asked(prometheus, empty)
    assert empty == {}, sorted(empty)
