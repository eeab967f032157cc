"""The protocol's official conformance suite, against a server made by the fleet's app factory."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from fleet_common.testing.npm import NODE, npm_packages

HERE = Path(__file__).parent
# The first run on a machine installs the suite.
pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def server(redis_url: str) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    words = [sys.executable, str(HERE / "server.py"), "--port", str(port), "--redis-url", redis_url]
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    try:
        ends = time.monotonic() + 60
        while not _listens(port):
            assert process.poll() is None, "the server ended"
            assert time.monotonic() < ends, "the server did not start"
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.terminate()
        process.wait(30)


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("revision", ["2026-07-28", "2025-11-25"])
def test_what_is_missed_is_exactly_what_is_known_to_be(server: str, revision: str) -> None:
    packages = npm_packages(HERE.parent / "npm" / "package.json") / "node_modules"
    suite = packages / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
    done = subprocess.run(
        [str(NODE), str(suite), "server", "--url", server, "--requirements", revision],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    outcomes = re.findall(r"^([✓✗]) ([\w-]+): \d+ passed, \d+ failed", done.stdout, re.MULTILINE)
    assert len(outcomes) >= 30, done.stdout + done.stderr
    expected = yaml.safe_load((HERE / "expected_misses.yml").read_text())[revision]
    assert {name for mark, name in outcomes if mark == "✗"} == set(expected), done.stdout
