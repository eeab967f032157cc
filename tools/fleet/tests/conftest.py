"""A project in a temporary folder, and services small enough to start in a tenth of a second."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fleet_cli.engines.freeport import free_port
from fleet_cli.processes import Child
from fleet_cli.state import State

# Answers as a service does: /readyz, and the verbs. FAIL_<SERVICE> makes it refuse to start.
STAND_IN = """
import http.server, json, os, signal, sys

name, verb = "{name}", sys.argv[1]
prefix = "FLEET_" + name.upper() + "_"
if problem := os.environ.get("FAIL_" + verb.upper() + "_" + name.upper()):
    print(json.dumps({{"level": "info", "event": "starting"}}), flush=True)
    sys.exit(f"fleet-{{name}}: {{problem}}")
if verb == "config":
    rows = [
        {{"variable": variable, "value": "**********" if "KEY" in variable else os.environ[variable],
         "source": "environment", "description": ""}}
        for variable in sorted(os.environ) if variable.startswith(prefix)
    ]
    rows.append({{"variable": prefix + "QUEUE", "value": "128", "source": "default", "description": ""}})
    print(json.dumps({{"service": name, "settings": rows}}))
if verb == "stdio":
    print(os.environ[prefix + "STDIO_KEY"])
if verb in ("registry", "routes"):
    print(verb, *sys.argv[2:], os.environ["FLEET_GATEWAY_SERVICES"])
if verb in ("migrate", "seed"):
    print(verb, "MIGRATOR_URL" in " ".join(os.environ))
if verb != "serve":
    sys.exit(0)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/readyz" else 404)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


if os.environ.get("STUBBORN") == name:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
print(name, "serves", flush=True)
port = int(os.environ[prefix + "PORT"])
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.fixture
def state(tmp_path: Path) -> State:
    found = State(tmp_path / "project")
    found.project.mkdir()
    found.ensure()
    return found


@pytest.fixture
def stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-in packages that `python -m fleet_<service>` finds before the real ones."""
    folder = tmp_path / "stand-ins"
    for name in ("gateway", "data", "devops", "aiml"):
        package = folder / f"fleet_{name}"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "__main__.py").write_text(STAND_IN.format(name=name))
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setattr("fleet_cli.startup.PRELOADED", "json")  # stand-ins need no MCP stack
    for variable in [name for name in os.environ if name.startswith("FLEET_")]:
        monkeypatch.delenv(variable)
    return folder


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Callable[..., Child]]:
    """Start a Python program as a child; whatever still runs at the end is killed."""
    children: list[Child] = []

    def start(code: str, name: str = "child", stop_signal: int = signal.SIGTERM) -> Child:
        command = [sys.executable, "-c", code]
        child = Child.start(name, command, log=tmp_path / f"{name}.log", stop_signal=stop_signal)
        children.append(child)
        return child

    yield start
    for child in children:
        if child.is_alive:
            child.popen.kill()
        child.popen.wait()


@pytest.fixture
def port_base() -> int:
    """A base whose ports were all free a moment ago."""
    from fleet_cli.ports import OFFSETS, is_free

    while True:
        base = free_port()
        if base < 65000 and all(is_free(base + offset) for offset in OFFSETS.values()):
            return base


@pytest.fixture
def port_holder() -> Iterator[subprocess.Popen[bytes]]:
    """Another process that listens on a port; the port is its attribute `args[-1]`."""
    command = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", str(free_port())]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield process
    process.kill()
    process.wait()


def eventually(holds: Callable[[], object], *, within_s: float = 8.0) -> None:
    """Return once `holds()` is true; fail when it never is."""
    until = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < until, "the condition never held"
        time.sleep(0.02)


@pytest.fixture(name="eventually")
def eventually_fixture() -> Callable[..., None]:
    return eventually
