"""The command line itself, as a person types it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from fastmcp import FastMCP
from fastmcp.exceptions import ToolError

from fleet_cli.__main__ import main
from fleet_cli.engines.freeport import free_port
from fleet_cli.ports import Ports, plan_ports
from fleet_cli.processes import Child
from fleet_cli.secrets import ensure_secrets
from fleet_cli.state import State
from fleet_cli.supervisor import Supervisor
from fleet_common.testing import serving

Spawn = Callable[..., Child]
Eventually = Callable[..., None]
Fleet = Callable[..., Result]

READY_SERVICE = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture
def fleet(state: State, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    """Run `fleet WORDS` in the project."""
    monkeypatch.delenv("FLEET_KEY", raising=False)

    def run(*words: str) -> Result:
        return CliRunner().invoke(main, ["--project", str(state.project), *words])

    return run


def typed(state: State, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run `fleet WORDS` as a process of its own."""
    command = [sys.executable, "-m", "fleet_cli", "--project", str(state.project), *words]
    return subprocess.run(
        command, env={**os.environ, **env}, capture_output=True, text=True, check=False, timeout=60
    )


def test_status_says_that_nothing_runs(fleet: Fleet) -> None:
    result = fleet("status")

    assert result.exit_code == 3
    assert "`fleet run` starts it" in result.stdout


@pytest.mark.parametrize("told", ["ready", "not ready", "ended"])
def test_status_tells_each_process(
    fleet: Fleet, state: State, spawn: Spawn, eventually: Eventually, told: str
) -> None:
    port = free_port()
    programs = {"ready": READY_SERVICE.replace("sys.argv[1]", str(port)), "ended": "pass"}
    child = spawn(programs.get(told, "import time; time.sleep(60)"), "data")
    Supervisor(state, Ports({"data": port})).adopt(child)
    if told == "ended":
        child.popen.wait()

    with state.locked():
        eventually(lambda: f" {told} " in fleet("status").stdout)
        shown = fleet("status").stdout

    assert "data" in shown
    assert str(port) in shown


def test_logs_show_the_last_lines_of_one_process_or_of_all(fleet: Fleet, state: State) -> None:
    state.log("data").write_text("".join(f"d{number}\n" for number in range(100)))
    state.log("aiml").write_text("a\n")

    assert fleet("logs", "data", "-n", "2").stdout == "d98\nd99\n"
    everything = fleet("logs").stdout
    assert "aiml" in everything
    assert "d99" in everything


def test_a_log_that_does_not_exist_is_answered_with_those_that_do(
    fleet: Fleet, state: State
) -> None:
    state.log("data").write_text("x\n")

    result = fleet("logs", "nonsense")

    assert result.exit_code != 0
    assert "data" in result.stderr


@pytest.mark.timeout(30)
def test_logs_go_on_as_lines_are_added(state: State, eventually: Eventually) -> None:
    state.log("data").write_text("old\n")
    command = [
        sys.executable,
        "-u",
        "-m",
        "fleet_cli",
        "--project",
        str(state.project),
        "logs",
        "-f",
    ]
    out = state.project / "out.txt"
    with out.open("wb") as file:
        following = subprocess.Popen(command, stdout=file)
    try:
        eventually(lambda: "old" in out.read_text())
        time.sleep(0.3)
        with state.log("data").open("a") as log:
            log.write("new\n")
        eventually(lambda: "new" in out.read_text())
        state.log("data").write_text("x\n")
        eventually(lambda: out.read_text().rstrip().endswith("x"))
    finally:
        following.terminate()
        following.wait(10)


def test_connect_prints_only_the_config_on_stdout(fleet: Fleet, state: State) -> None:
    key = ensure_secrets(state).admin_key

    result = fleet("connect", "claude-code")

    server = json.loads(result.stdout)["mcpServers"]["fleet"]
    assert server["url"] == "http://127.0.0.1:8080/key/mcp"
    assert f"export FLEET_KEY={key}" in result.stderr


def test_connect_uses_the_ports_of_the_last_fleet(fleet: Fleet, state: State) -> None:
    ensure_secrets(state)
    Supervisor(state, plan_ports(9900, {})).stop()

    result = fleet("connect", "json", "--service", "data")

    facts = json.loads(result.stdout)
    assert (facts["name"], facts["url"]) == ("fleet-data", "http://127.0.0.1:9901/mcp")


def test_connect_writes_the_file(fleet: Fleet, state: State) -> None:
    ensure_secrets(state)

    result = fleet("connect", "cursor", "--write")

    assert result.exit_code == 0
    assert "fleet" in (state.project / ".cursor" / "mcp.json").read_text()


def test_connect_before_the_first_run_says_what_to_do(fleet: Fleet) -> None:
    result = fleet("connect", "cursor")

    assert result.exit_code == 1
    assert "fleet run" in result.stderr
    assert result.stdout == ""


def test_connect_tells_the_trap_of_a_client(fleet: Fleet, state: State) -> None:
    ensure_secrets(state)

    assert "Connectors" in fleet("connect", "claude-desktop").stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"), [("{", "JSON"), ("[1]", "JSON object"), ("x=1", "JSON")]
)
def test_call_refuses_what_is_no_json_object(
    fleet: Fleet, state: State, arguments: str, complaint: str
) -> None:
    ensure_secrets(state)

    result = fleet("call", "crm_search", arguments)

    assert result.exit_code == 1
    assert complaint in result.stderr
    assert "Traceback" not in result.stderr


def server() -> FastMCP[Any]:
    found: FastMCP[Any] = FastMCP("stand-in")

    @found.tool
    def add(first: int, second: int) -> str:
        return str(first + second)

    @found.tool
    def fail() -> str:
        raise ToolError("not_found: contact 7 not found")

    return found


@pytest.fixture
async def tools(state: State) -> AsyncGenerator[dict[str, str]]:
    """A server with two tools where the gateway would be; the environment that finds it."""
    async with serving(server().http_app(stateless_http=True)) as base:
        port = int(base.rpartition(":")[2])
        yield {"FLEET_GATEWAY_PORT": str(port), "FLEET_KEY": "fleet_ab12cd34_secret"}


async def in_thread(work: Callable[[], subprocess.CompletedProcess[str]]) -> Any:
    import anyio.to_thread

    return await anyio.to_thread.run_sync(work)


@pytest.mark.timeout(60)
async def test_call_prints_what_the_tool_answers(state: State, tools: dict[str, str]) -> None:
    done = await in_thread(
        lambda: typed(state, "call", "add", '{"first": 1, "second": 2}', **tools)
    )

    assert (done.returncode, done.stdout) == (0, "3\n")


@pytest.mark.timeout(60)
async def test_a_tools_error_is_text_on_stderr_and_a_status(
    state: State, tools: dict[str, str]
) -> None:
    done = await in_thread(lambda: typed(state, "call", "fail", **tools))

    assert (done.returncode, done.stdout) == (1, "")
    assert "not_found: contact 7 not found" in done.stderr


@pytest.mark.timeout(60)
def test_calling_nobody_says_that_nothing_runs(state: State, port_base: int) -> None:
    found = {"FLEET_GATEWAY_PORT": str(port_base), "FLEET_KEY": "fleet_ab12cd34_secret"}

    done = typed(state, "call", "add", **found)

    assert done.returncode == 1
    assert "could not be reached" in done.stderr
    assert "`fleet run` starts it" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.timeout(60)
def test_config_tells_where_each_setting_comes_from(
    fleet: Fleet, stand_ins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEET_AIML_THREADS", "2")
    monkeypatch.setenv("COLUMNS", "200")

    shown = fleet("config", "aiml").stdout

    sources = {line.split()[0]: line.split()[-1] for line in shown.splitlines() if "FLEET_" in line}
    assert sources["FLEET_AIML_THREADS"] == "environment"
    assert sources["FLEET_AIML_QUEUE"] == "default"
    assert "fleet run" in next(line for line in shown.splitlines() if "FLEET_AIML_PORT" in line)


def test_a_setting_that_is_refused_is_told_by_the_service(
    fleet: Fleet, stand_ins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAIL_CONFIG_AIML", "FLEET_AIML_SLOTS: must be a number")

    result = fleet("config", "aiml")

    assert result.exit_code == 1
    assert "FLEET_AIML_SLOTS: must be a number" in result.stderr


def test_a_relative_project_is_told_to_services_as_an_absolute_one(
    state: State, stand_ins: Path
) -> None:
    command = [sys.executable, "-m", "fleet_cli", "--project", state.project.name]
    done = subprocess.run(
        [*command, "config", "aiml"],
        cwd=state.project.parent,
        env={**os.environ, "COLUMNS": "300"},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert str(state.project / ".fleet" / "vectors") in done.stdout


def test_stdio_becomes_the_service_with_a_key(state: State, stand_ins: Path) -> None:
    key = ensure_secrets(state).admin_key

    done = typed(state, "stdio", "devops")

    assert done.stdout.strip() == key


@pytest.mark.parametrize(
    "words",
    [("registry", "accept", "data", "crm_get"), ("routes", "export", "--hostname", "a.example")],
)
def test_the_gateways_own_verbs_are_told_where_the_services_are(
    state: State, stand_ins: Path, words: tuple[str, ...]
) -> None:
    done = typed(state, *words)

    assert done.stdout.startswith(f"{' '.join(words)} data=http://127.0.0.1:")


def test_run_is_refused_where_a_fleet_runs(fleet: Fleet, state: State) -> None:
    with state.locked():
        result = fleet("run")

    assert result.exit_code == 1
    assert "already running" in result.stderr
    assert "fleet status" in result.stderr


def test_help_is_there_for_every_command(fleet: Fleet) -> None:
    shown = fleet("--help").stdout

    for name in ("run", "status", "logs", "connect", "call", "config", "key", "stdio"):
        assert name in shown
        assert fleet(name, "--help").exit_code == 0


def test_simulate_knows_the_services_of_the_scaling_policy(fleet: Fleet) -> None:
    result = fleet("simulate", "--service", "mail")
    assert result.exit_code == 2
    assert "the policy has: gateway, data, devops, aiml" in result.output
