"""The real fleet, started as a user starts it, beside a stateful GitHub; once for all tests that cross services."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from fleet_cli.engines.freeport import free_port
from fleet_common.testing.npm import NODE, npm_packages
from fleet_common.testing.oidc import Provider, running_provider

ROOT = Path(__file__).parents[1]
START_S, STOP_S = 90, 15


@dataclass(frozen=True)
class RunningFleet:
    """A fleet in a project of its own."""

    project: Path
    process: subprocess.Popen[bytes]
    urls: dict[str, str]
    key: str

    def origin(self, service: str) -> str:
        return self.urls[service].removesuffix("/mcp")

    def http(self, service: str = "gateway", **headers: str) -> httpx.Client:
        bearer = {"authorization": f"Bearer {self.key}", **headers}
        return httpx.Client(base_url=self.origin(service), headers=bearer, timeout=30)

    def children(self) -> dict[str, int]:
        facts = json.loads((self.project / ".fleet" / "run.json").read_text())
        return {child["name"]: child["pid"] for child in facts["children"]}


def free_base(first: int = 20080) -> int:
    """Return a port, from `first` on, after which six more are free."""
    for base in range(first, 60000, 100):
        if all(_is_free(base + offset) for offset in range(7)):
            return base
    raise RuntimeError("no seven ports in a row are free")


def _is_free(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) != 0


def fleet_command(project: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "fleet_cli", "--project", str(project), *words]


@contextmanager
def running(project: Path, base: int, **env: str) -> Iterator[RunningFleet]:
    """Run `fleet run` while the block runs, and end it with SIGINT."""
    ready, log = project / "ready.json", project / "fleet.log"
    ready.unlink(missing_ok=True)
    words = fleet_command(project, "run", "--port-base", str(base), "--ready-file", str(ready))
    engines = {"FLEET_ENGINE_DIR": str(engine_folder(project))}
    with log.open("ab") as out:
        process = subprocess.Popen(
            words, stdout=out, stderr=out, env={**os.environ, **engines, **env}
        )
    try:
        wait_for(lambda: ready.exists() or process.poll() is not None, START_S, log)
        assert process.poll() is None, log.read_text()
        facts = json.loads(ready.read_text())
        key = facts.pop("key")
        yield RunningFleet(project, process, facts, key)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(STOP_S)


def engine_folder(project: Path) -> Path:
    """Return where root's engines live for this project: a folder that PostgreSQL's own user can enter."""
    digest = hashlib.sha256(str(project).encode()).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"fleet-e2e-{digest}"
    folder.mkdir(mode=0o711, exist_ok=True)
    return folder


def wait_for(holds: Callable[[], Any], within_s: float, log: Path | None = None) -> None:
    """Return once `holds()`; else fail with the end of `log`."""
    ends = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < ends, log.read_text()[-3000:] if log else "not in time"
        time.sleep(0.1)


def make_project(folder: Path) -> Path:
    """Return a project with a few documents: the fleet indexes them before it says that it is ready."""
    (folder / "docs").mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "README.md", folder)
    for page in ("audit.md", "connecting-clients.md"):
        shutil.copy(ROOT / "docs" / page, folder / "docs")
    (folder / ".fleet").mkdir(mode=0o700, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def github() -> Iterator[str]:
    """A stateful GitHub with one repository, admin/shop, and its README; its base URL."""
    port = free_port()
    emulator = ROOT / "services/devops/tests/emulate/emulator.py"
    subprocess.run([sys.executable, emulator, "--install-only"], check=True, capture_output=True)
    process = subprocess.Popen(
        [sys.executable, emulator, "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: not _is_free(port), 30)
        with httpx.Client(base_url=url, headers={"authorization": "Bearer any"}) as api:
            api.post("/user/repos", json={"name": "shop", "auto_init": True}).raise_for_status()
            file = {"message": "Say hello", "content": "SGVsbG8gZnJvbSB0aGUgc2hvcAo="}
            api.put("/repos/admin/shop/contents/hello.txt", json=file).raise_for_status()
        yield url
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="session")
def provider() -> Iterator[Provider]:
    """The authorization server that the fleet trusts."""
    with running_provider(ROOT / "libs" / "common" / "tests" / "mcp" / "oidc") as started:
        yield started


@pytest.fixture(scope="session")
def fleet(
    tmp_path_factory: pytest.TempPathFactory, github: str, provider: Provider
) -> Iterator[RunningFleet]:
    project, base = make_project(tmp_path_factory.mktemp("fleet") / "project"), free_base()
    env = {"FLEET_DEVOPS_GITHUB_API_URL": github, "FLEET_DEVOPS_GITHUB_TOKEN": "any"}
    for service, port in (("GATEWAY", base), ("DATA", base + 1)):
        env[f"FLEET_{service}_OAUTH_ISSUER"] = provider.url
        env[f"FLEET_{service}_PUBLIC_URL"] = f"http://127.0.0.1:{port}"
    with running(project, base, **env) as started:
        yield started
    shutil.rmtree(engine_folder(project))


@dataclass(frozen=True)
class Laptop:
    """One project, in which a test starts fleets itself."""

    project: Path
    base: int

    def fleet(self, **env: str) -> AbstractContextManager[RunningFleet]:
        return running(self.project, self.base, **env)

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            fleet_command(self.project, *words),
            capture_output=True,
            text=True,
            timeout=START_S,
            check=False,
        )

    def log(self) -> str:
        return (self.project / "fleet.log").read_text()


@pytest.fixture(scope="session")
def laptop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laptop]:
    project = tmp_path_factory.mktemp("laptop") / "project"
    project.mkdir()
    (project / "README.md").write_text("# Shop\n\nThe shop sells lamps.\n")
    (project / ".fleet").mkdir(mode=0o700)
    # Far from the ports of the other fleet, which may start in between.
    yield Laptop(project, free_base(30080))
    shutil.rmtree(engine_folder(project))


@pytest.fixture(scope="session")
def inspector() -> Callable[..., Any]:
    """Runs the MCP Inspector's command line against a URL and returns the result it prints."""
    packages = npm_packages(ROOT / "tests" / "npm" / "package.json") / "node_modules"
    program = packages / "@modelcontextprotocol/inspector/clients/launcher/build/index.js"

    def run(url: str, key: str, era: str, method: str, *words: str) -> Any:
        done = subprocess.run(
            [
                *(str(NODE), str(program), "--cli", url, "--transport", "http"),
                *("--protocol-era", era, "--header", f"Authorization: Bearer {key}"),
                *("--method", method, *words, "--format", "json", "-q"),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)["result"]

    return run
