"""The official conformance suite, against a server made by the fleet's app factory, alone and behind the gateway."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import yaml

from fleet_common.testing.npm import NODE, npm_packages

HERE = Path(__file__).parent
# The first run on a machine installs the suite.
pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def server(redis_url: str) -> Iterator[str]:
    with _running("server.py", "--redis-url", redis_url) as url:
        yield url


@pytest.fixture(scope="module")
def gateway(server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("gateway")
    with _running("gateway.py", "--server", server, "--folder", str(folder)) as url:
        _wait_until(lambda: httpx.get(f"{url}/readyz").status_code == 200, "the gateway")
        yield url


@contextmanager
def _running(program: str, *words: str) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    command = [sys.executable, str(HERE / program), "--port", str(port), *words]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_until(lambda: process.poll() is not None or _listens(port), program)
        assert process.poll() is None, f"{program} ended"
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def _wait_until(is_so: Callable[[], bool], what: str) -> None:
    ends = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < ends, f"{what} did not start"
        time.sleep(0.1)


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("revision", ["2026-07-28", "2025-11-25"])
def test_what_is_missed_is_exactly_what_is_known_to_be(server: str, revision: str) -> None:
    assert _missed(server, revision) == _expected(revision)


def test_behind_the_gateway_nothing_else_is_missed(gateway: str) -> None:
    assert _missed(gateway, "2026-07-28") == _expected("2026-07-28")


def _expected(revision: str) -> set[str]:
    return {*yaml.safe_load((HERE / "expected_misses.yml").read_text())[revision]}


def _missed(url: str, revision: str) -> set[str]:
    packages = npm_packages(HERE.parent / "npm" / "package.json") / "node_modules"
    suite = packages / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
    done = subprocess.run(
        [str(NODE), str(suite), "server", "--url", f"{url}/mcp", "--requirements", revision],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    outcomes = re.findall(r"^([✓✗]) ([\w-]+): \d+ passed, \d+ failed", done.stdout, re.MULTILINE)
    assert len(outcomes) >= 30, done.stdout + done.stderr
    print(done.stdout)
    return {name for mark, name in outcomes if mark == "✗"}
