"""Processes that start by fork behave as ones that were started by themselves."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from fleet_cli import forking
from fleet_cli.errors import StartFailed
from fleet_cli.forking import ForkServer
from fleet_cli.processes import Child

pytestmark = pytest.mark.skipif(not forking.AVAILABLE, reason="fork servers are for Linux only")
Eventually = Callable[..., None]

PROGRAM = """
import json, os, signal, sys, time
print(json.dumps({"words": sys.argv[1:], "colour": os.environ.get("COLOUR"), "home": os.environ.get("HOME"),
                  "cwd": os.getcwd(), "leader": os.getsid(0) == os.getpid(), "shared": "colorsys" in sys.modules}))
if "wait" in sys.argv:
    time.sleep(60)
sys.exit(int(sys.argv[-1]))
"""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ForkServer]:
    (tmp_path / "program.py").write_text(PROGRAM)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = ForkServer("colorsys", log=tmp_path / "forkserver.log")
    yield found
    found.child.stop()


def start(server: ForkServer, tmp_path: Path, *words: str, name: str = "program") -> Child:
    log = tmp_path / f"{name}.log"
    return server.start(name, ["program", *words], log=log, env={"COLOUR": "blue"}, cwd=tmp_path)


def test_a_process_gets_its_words_environment_folder_and_session(
    server: ForkServer, tmp_path: Path
) -> None:
    child = start(server, tmp_path, "serve", "0")

    assert child.popen.wait(5) == 0
    assert child.last_words() == (
        '{"words": ["serve", "0"], "colour": "blue", "home": null, '
        f'"cwd": "{tmp_path}", "leader": true, "shared": true}}'
    )


def test_each_process_tells_how_it_ended(server: ForkServer, tmp_path: Path) -> None:
    failed = start(server, tmp_path, "3", name="failed")
    killed = start(server, tmp_path, "wait", "0", name="killed")
    assert failed.popen.wait(5) == 3
    assert killed.is_alive

    killed.popen.kill()

    assert killed.popen.wait(5) == -signal.SIGKILL
    assert not killed.is_alive


def test_stopping_a_process_leaves_its_siblings_alone(server: ForkServer, tmp_path: Path) -> None:
    first, second = (start(server, tmp_path, "wait", "0", name=name) for name in ("a", "b"))

    first.stop()

    assert not first.is_alive
    assert second.is_alive
    second.stop()


def test_a_process_that_takes_longer_is_a_timeout(server: ForkServer, tmp_path: Path) -> None:
    child = start(server, tmp_path, "wait", "0")

    with pytest.raises(subprocess.TimeoutExpired):
        child.popen.wait(0.05)
    child.stop()


def test_the_services_outlive_the_server_and_can_still_be_stopped(
    server: ForkServer, tmp_path: Path
) -> None:
    child = start(server, tmp_path, "wait", "0")

    server.child.popen.kill()
    server.child.popen.wait(5)

    assert psutil.pid_exists(child.popen.pid)
    child.stop()
    assert not child.is_alive
    with pytest.raises(StartFailed, match="did not answer"):
        start(server, tmp_path, "0")


def test_the_server_ends_when_its_owner_is_gone(tmp_path: Path, eventually: Eventually) -> None:
    owner = f"""
import os, pathlib, signal
from fleet_cli.forking import ForkServer
server = ForkServer("json", log=pathlib.Path({str(tmp_path / "log")!r}))
print(server.child.popen.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    run = subprocess.run([sys.executable, "-c", owner], capture_output=True, check=False, timeout=5)

    pid = int(run.stdout)
    eventually(lambda: not psutil.pid_exists(pid))


def test_a_module_that_cannot_be_imported_is_named(tmp_path: Path) -> None:
    server = ForkServer("no_such_module", log=tmp_path / "forkserver.log")

    with pytest.raises(StartFailed, match="no_such_module"):
        start(server, tmp_path, "0")
    server.child.popen.wait(5)
