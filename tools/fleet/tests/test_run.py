"""`fleet run` with the real engines and stand-in services."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from shutil import rmtree
from typing import Any

import psutil
import pytest
from rich.console import Console

from fleet_cli import forking
from fleet_cli.errors import BadInput, PortTaken, StartFailed
from fleet_cli.ports import SERVICES
from fleet_cli.run import RunOptions, run_fleet
from fleet_cli.state import State
from fleet_cli.supervisor import ChildRecord, read_run
from fleet_common.policy import BadPolicy

pytestmark = pytest.mark.timeout(90)
Eventually = Callable[..., None]


class Laptop:
    """Runs fleets in this process; `while_ready` acts in a thread once one answers, then Ctrl-C follows."""

    def __init__(self, state: State, base: int) -> None:
        self.state = state
        self.ready_file = state.project / "ready.json"
        self.options = RunOptions(project=state.project, port_base=base, ready_file=self.ready_file)
        self.screen = io.StringIO()
        self.over = threading.Event()

    def run(self, while_ready: Callable[[dict[str, Any]], object] = lambda _: None) -> str:
        """Run until ready, act, press Ctrl-C, and return what was shown."""
        self.over.clear()
        worker = threading.Thread(target=self._press_ctrl_c, args=(while_ready,))
        worker.start()
        try:
            run_fleet(self.options, dict(os.environ), Console(file=self.screen, width=80))
        finally:
            self.over.set()
            worker.join()
        return self.screen.getvalue()

    def _press_ctrl_c(self, act: Callable[[dict[str, Any]], object]) -> None:
        while not self.ready_file.exists():
            if self.over.wait(0.05):
                return
        try:
            act(json.loads(self.ready_file.read_text()))
        finally:
            if not self.over.is_set():
                os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def engine_folder(stand_ins: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the engines of root live while we test: a folder that goes away with us."""
    folder = Path(tempfile.mkdtemp(prefix="fleet-engine-"))
    folder.chmod(0o711)
    monkeypatch.setenv("FLEET_ENGINE_DIR", str(folder))
    yield folder
    rmtree(folder)


@pytest.fixture
def laptop(state: State, port_base: int, engine_folder: Path) -> Laptop:
    return Laptop(state, port_base)


@pytest.fixture
def without_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a user who brings a database and a Redis: nothing but the services starts."""
    monkeypatch.setenv("FLEET_DATA_DATABASE_URL", "postgresql://writer@127.0.0.1:1/crm")
    monkeypatch.setenv("FLEET_REDIS_URL", "redis://127.0.0.1:1/0")


def alive(children: Iterable[ChildRecord]) -> list[str]:
    return [child.name for child in children if child.process.process() is not None]


def test_everything_starts_is_announced_and_stops(laptop: Laptop) -> None:
    seen: dict[str, Any] = {}

    def look(facts: dict[str, Any]) -> None:
        run = read_run(laptop.state)
        seen.update(facts=facts, run=run, mode=laptop.ready_file.stat().st_mode & 0o777)

    shown = laptop.run(look)

    base = laptop.options.port_base
    assert seen["facts"]["gateway"] == f"http://127.0.0.1:{base}/mcp"
    assert set(seen["facts"]) == {"gateway", "data", "devops", "aiml", "key"}
    assert seen["mode"] == 0o600
    assert seen["run"].ready
    names = {"gateway", "data", "devops", "aiml", "postgres", "valkey"}
    assert {child.name for child in seen["run"].children} - {forking.NAME} == names
    assert seen["facts"]["key"] in shown
    assert "The fleet is running" in shown
    assert "Ctrl-C stops everything." in shown
    assert alive(seen["run"].children) == []
    assert not laptop.ready_file.exists()


def test_the_second_start_does_not_migrate_again(laptop: Laptop) -> None:
    assert "migrate" in laptop.run()
    laptop.screen.truncate(0)

    assert "migrate" not in laptop.run()


def test_the_screen_holds_a_config_that_can_be_copied(
    laptop: Laptop, without_engines: None
) -> None:
    facts: dict[str, Any] = {}
    shown = laptop.run(facts.update)

    start, end = shown.index("\n{"), shown.index("\n}") + 2
    server = json.loads(shown[start:end])["mcpServers"]["fleet"]
    assert server["url"] == facts["gateway"].replace("/mcp", "/key/mcp")
    assert server["headers"] == {"Authorization": f"Bearer {facts['key']}"}


def test_a_service_that_refuses_to_start_is_quoted_and_nothing_is_left(
    laptop: Laptop, without_engines: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIL_SERVE_DEVOPS", "FLEET_DEVOPS_SLOTS: must be a number")

    with pytest.raises(StartFailed, match="FLEET_DEVOPS_SLOTS: must be a number"):
        laptop.run()

    assert not laptop.ready_file.exists()


def test_a_migration_that_fails_is_quoted(laptop: Laptop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIL_MIGRATE_DATA", "conflict: 0001_crm.sql changed")

    with pytest.raises(StartFailed, match="migrate ended with status 1"):
        laptop.run()


def test_a_service_that_dies_later_ends_the_fleet(laptop: Laptop, without_engines: None) -> None:
    def kill_aiml(_facts: dict[str, Any]) -> None:
        (aiml,) = [row for row in read_run(laptop.state).children if row.name == "aiml"]
        os.kill(aiml.pid, signal.SIGKILL)
        assert laptop.over.wait(10), "the fleet did not notice"

    with pytest.raises(StartFailed, match="aiml was killed by signal 9"):
        laptop.run(kill_aiml)


def test_a_service_that_does_not_listen_to_the_signal_is_killed(
    laptop: Laptop, without_engines: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STUBBORN", "data")
    children: list[ChildRecord] = []

    began = time.monotonic()
    laptop.run(lambda _: children.extend(read_run(laptop.state).children))

    assert {child.name for child in children} - {forking.NAME} == {*SERVICES}
    assert alive(children) == []
    assert time.monotonic() - began < 20


def test_a_taken_port_stops_the_start_before_anything_runs(
    laptop: Laptop, port_holder: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEET_DATA_PORT", str(list(port_holder.args)[-1]))  # type: ignore[arg-type]  # a list
    while not _listens(port_holder):
        time.sleep(0.02)

    with pytest.raises(PortTaken, match=rf"pid {port_holder.pid}"):
        laptop.run()


def test_ctrl_c_while_starting_stops_what_has_started(
    laptop: Laptop, without_engines: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (Path(os.environ["PYTHONPATH"]) / "fleet_aiml" / "__main__.py").write_text(
        "import time; time.sleep(60)"
    )

    def interrupt() -> None:
        while len(read_run(laptop.state).children) < 4:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    worker = threading.Thread(target=interrupt)
    worker.start()
    shown = laptop.run()
    worker.join()

    assert "Stopped everything" in shown
    assert "The fleet is running" not in shown


@pytest.fixture
def killed_fleet(laptop: Laptop) -> Iterator[tuple[ChildRecord, ...]]:
    """A fleet with all its engines, killed with -9; what it left behind."""
    command = [sys.executable, "-m", "fleet_cli", "--project", str(laptop.state.project), "run"]
    command += ["--port-base", str(laptop.options.port_base)]
    fleet = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while not read_run(laptop.state).ready:
        assert fleet.poll() is None
        time.sleep(0.05)
    children = read_run(laptop.state).children
    fleet.kill()
    fleet.wait()
    yield children
    for child in children:
        child.process.end(signal.SIGKILL)


def test_a_killed_fleet_is_cleaned_up_by_the_next(
    laptop: Laptop, killed_fleet: tuple[ChildRecord, ...]
) -> None:
    assert len({*alive(killed_fleet)} - {forking.NAME}) == 6
    running: list[str] = []

    shown = laptop.run(lambda _: running.extend(alive(killed_fleet)))

    assert "Ended what an earlier fleet left behind: gateway, data" in shown
    assert running == []


def test_the_ready_file_of_a_killed_fleet_is_gone_before_anything_starts(
    laptop: Laptop, without_engines: None
) -> None:
    laptop.ready_file.write_text('{"gateway": "of a fleet that is gone"}')
    (Path(os.environ["PYTHONPATH"]) / "fleet_aiml" / "__main__.py").write_text(
        "import os, sys; sys.exit(f'stale: {os.path.exists(\"ready.json\")}')"
    )

    # Not through `laptop.run`: it would take the stale file for the sign to press Ctrl-C.
    with pytest.raises(StartFailed, match="stale: False"):
        run_fleet(laptop.options, dict(os.environ), Console(file=laptop.screen))

    assert not laptop.ready_file.exists()


def test_a_ready_file_without_a_folder_is_refused_before_anything_starts(laptop: Laptop) -> None:
    options = RunOptions(
        project=laptop.state.project,
        port_base=laptop.options.port_base,
        ready_file=laptop.state.project / "missing" / "ready.json",
    )

    with pytest.raises(BadInput, match="there is no folder"):
        run_fleet(options, dict(os.environ), Console(file=laptop.screen))

    assert not laptop.ready_file.exists()


def test_documents_that_cannot_be_indexed_are_a_warning(
    laptop: Laptop, without_engines: None
) -> None:
    (laptop.state.project / "README.md").write_text("# Hello\n")

    shown = laptop.run()

    assert "! The documents are not all searchable" in shown
    assert "The fleet is running" in shown


def test_ctrl_c_is_heard_while_documents_are_indexed(
    laptop: Laptop, without_engines: None, stand_ins: Path
) -> None:
    (laptop.state.project / "README.md").write_text("# Hello\n")
    service = stand_ins / "fleet_aiml" / "__main__.py"
    busy = "    def do_POST(self):\n        print('busy', flush=True)\n        time.sleep(60)\n"
    text = service.read_text().replace("    def log_message", f"{busy}\n    def log_message")
    service.write_text(f"import time\n{text}")

    def interrupt() -> None:
        log = laptop.state.log("aiml")
        while not (log.exists() and "busy" in log.read_text()):
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    worker = threading.Thread(target=interrupt)
    worker.start()
    began = time.monotonic()
    shown = laptop.run()
    worker.join()

    assert "Stopped everything" in shown
    assert "The fleet is running" not in shown
    assert time.monotonic() - began < 20


def test_a_password_that_the_database_does_not_know_is_a_sentence(laptop: Laptop) -> None:
    laptop.run()
    (laptop.state.path / "secrets.json").unlink()

    with pytest.raises(StartFailed, match=r"refuses the password in \.fleet/secrets\.json"):
        laptop.run()


def _listens(process: subprocess.Popen[bytes]) -> bool:
    return any(
        connection.status == psutil.CONN_LISTEN
        for connection in psutil.Process(process.pid).net_connections()
    )


def test_without_a_fork_server_each_service_starts_by_itself(
    laptop: Laptop, without_engines: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forking, "AVAILABLE", False)
    children: list[ChildRecord] = []

    laptop.run(lambda _: children.extend(read_run(laptop.state).children))

    assert {child.name for child in children} == {*SERVICES}


def test_a_wrong_policy_stops_the_start_before_anything_runs(laptop: Laptop) -> None:
    (laptop.state.project / "fleet-policy.yaml").write_text("version: 1\nrolls: {}\n")

    with pytest.raises(BadPolicy, match=r"fleet-policy\.yaml:2: rolls: unknown key"):
        laptop.run()

    assert not laptop.ready_file.exists()
