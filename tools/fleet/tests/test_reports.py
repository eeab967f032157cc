"""What `fleet status`, `fleet logs` and `fleet config` tell about real processes."""

from __future__ import annotations

import io
import os
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from rich.console import Console, RenderableType

from fleet_cli import reports
from fleet_cli.environment import Environment
from fleet_cli.errors import BadInput, StartFailed
from fleet_cli.ports import Ports, is_free, plan_ports
from fleet_cli.processes import Child
from fleet_cli.reports import follow, print_log, settings_table, status_table
from fleet_cli.secrets import ensure_secrets
from fleet_cli.state import State
from fleet_cli.supervisor import Supervisor

Eventually = Callable[..., None]
Spawn = Callable[..., Child]

SERVES = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response({status}); self.send_header("content-length", "0"); self.end_headers()
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", {port}), Handler).serve_forever()
"""


def drawn(what: RenderableType, width: int = 100) -> str:
    file = io.StringIO()
    Console(file=file, width=width).print(what)
    return file.getvalue()


def row_of(name: str, state: State) -> list[str]:
    rows = [line.split() for line in drawn(status_table(state)).splitlines()]
    return next(row for row in rows if row and row[0] == name)


@pytest.fixture
def ports(port_base: int) -> Ports:
    return plan_ports(port_base, {})


@pytest.fixture
def supervisor(state: State, ports: Ports) -> Supervisor:
    return Supervisor(state, ports)


class TestStatus:
    @pytest.fixture
    def answers(
        self, ports: Ports, supervisor: Supervisor, spawn: Spawn, eventually: Eventually
    ) -> Callable[[int], Child]:
        """Start a stand-in for the data service that answers each question with one status."""

        def start(status: int) -> Child:
            child = spawn(SERVES.format(status=status, port=ports["data"]), "data")
            supervisor.adopt(child)
            eventually(lambda: not is_free(ports["data"]))
            return child

        return start

    @pytest.mark.parametrize(("status", "word"), [(200, "ready"), (503, "not")])
    def test_a_service_is_ready_when_it_says_so(
        self, status: int, word: str, state: State, answers: Callable[[int], Child]
    ) -> None:
        child = answers(status)

        row = row_of("data", state)

        assert row[2:4] == [str(child.popen.pid), word]

    def test_an_engine_is_running_as_long_as_it_lives(
        self, state: State, supervisor: Supervisor, spawn: Spawn
    ) -> None:
        child = spawn("import time; time.sleep(60)", "postgres")
        supervisor.adopt(child)

        assert row_of("postgres", state)[3] == "running"

        child.popen.kill()
        child.popen.wait()
        assert row_of("postgres", state)[3] == "ended"

    def test_a_service_that_does_not_listen_is_not_ready(
        self, state: State, supervisor: Supervisor, spawn: Spawn
    ) -> None:
        supervisor.adopt(spawn("import time; time.sleep(60)", "aiml"))

        assert row_of("aiml", state)[3:5] == ["not", "ready"]

    @pytest.mark.parametrize(
        ("seconds", "text"), [(7.9, "7s"), (67, "1m 07s"), (3600 * 25 + 120, "25h 02m")]
    )
    def test_time_is_told_in_the_two_units_that_matter(self, seconds: float, text: str) -> None:
        assert reports._duration(seconds) == text


class TestLogs:
    @pytest.fixture
    def logs(self, state: State) -> State:
        state.log("data").write_text("one\ntwo\nthree\n")
        state.log("gateway").write_text("hello\n")
        return state

    def test_the_newest_lines_of_one_log(
        self, logs: State, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert print_log(logs, "data", 2) == ["data"]
        assert capsys.readouterr().out == "two\nthree\n"

    def test_all_logs_come_under_their_names(
        self, logs: State, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert print_log(logs, None, 1) == ["data", "gateway"]
        assert capsys.readouterr().out == "── data\nthree\n── gateway\nhello\n"

    def test_no_lines_are_no_lines(self, logs: State, capsys: pytest.CaptureFixture[str]) -> None:
        print_log(logs, "data", 0)

        assert capsys.readouterr().out.strip() == ""

    def test_an_unknown_log_is_answered_with_the_known_ones(self, logs: State) -> None:
        with pytest.raises(BadInput, match="data, gateway"):
            print_log(logs, "kafka", 5)

    def test_looking_never_moves_a_long_log(self, logs: State) -> None:
        with logs.log("data").open("ab") as file:
            file.truncate(11 * 1024 * 1024)

        print_log(logs, "data", 1)

        assert logs.log("data").stat().st_size == 11 * 1024 * 1024


@pytest.fixture
def following(state: State, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Follow logs in a thread; the clock's next tick after the test stops it as Ctrl-C does."""
    over = threading.Event()
    threads: list[threading.Thread] = []
    sleep = time.sleep

    def tick(seconds: float) -> None:
        if over.is_set() and threading.current_thread() in threads:
            raise KeyboardInterrupt
        sleep(min(seconds, 0.02))

    monkeypatch.setattr(time, "sleep", tick)

    def start(*names: str) -> None:
        thread = threading.Thread(target=follow, args=(state, names))
        threads.append(thread)
        thread.start()

    yield start
    over.set()
    for thread in threads:
        thread.join()


class TestFollowing:
    def test_shows_new_lines_only(
        self,
        state: State,
        following: Callable[..., None],
        eventually: Eventually,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        state.log("data").write_text("old\n")
        state.log("aiml").write_text("")
        following("data", "aiml")
        shown: list[str] = []

        def saw(text: str) -> bool:
            with state.log("data").open("a") as file:
                file.write("new\n")
            shown.append(capsys.readouterr().out)
            return text in "".join(shown)

        eventually(lambda: saw("data      new\n"))
        assert "old" not in "".join(shown)

    def test_begins_anew_when_a_log_was_put_aside(
        self,
        state: State,
        following: Callable[..., None],
        eventually: Eventually,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        state.log("data").write_text("a long line of the old log\n")
        following("data")
        shown: list[str] = []

        def saw() -> bool:
            state.log("data").write_text("short\n")
            shown.append(capsys.readouterr().out)
            return "short\n" in "".join(shown)

        eventually(saw)


class TestSettings:
    @pytest.fixture
    def environment(self, state: State, ports: Ports) -> Environment:
        user = {name: text for name, text in os.environ.items() if not name.startswith("FLEET_")}
        user["FLEET_DATA_LOG_LEVEL"] = "WARNING"
        return Environment(state, ports, ensure_secrets(state), user)

    @pytest.mark.timeout(60)
    def test_come_from_the_service_itself_with_their_source_and_without_secrets(
        self, environment: Environment, ports: Ports
    ) -> None:
        table = settings_table("data", environment)

        rows = {row[0]: row[1:] for row in map(str.split, drawn(table, width=200).splitlines()[2:])}
        assert rows["FLEET_DATA_PORT"] == [str(ports["data"]), "fleet", "run"]
        assert rows["FLEET_DATA_LOG_LEVEL"] == ["WARNING", "environment"]
        assert rows["FLEET_DATA_POOL_SIZE"][-1] == "default"
        assert environment.secrets.claims_key not in drawn(table, width=200)
        assert "…" not in drawn(table, width=70), "names are folded, never cut"

    @pytest.mark.timeout(60)
    def test_that_are_refused_are_told_in_the_services_own_words(
        self, environment: Environment
    ) -> None:
        user = {**environment.user, "FLEET_DEVOPS_PORT": "many"}
        wrong = Environment(environment.state, environment.ports, environment.secrets, user)

        with pytest.raises(StartFailed, match="FLEET_DEVOPS_PORT"):
            settings_table("devops", wrong)
