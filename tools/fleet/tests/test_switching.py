"""The kill switch as an operator uses it: the command on one side, server processes on the other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner, Result
from redis import Redis

from fleet_cli.__main__ import main
from fleet_cli.engines.freeport import free_port
from fleet_cli.state import State
from fleet_common.auth.keys import KeyFile
from fleet_common.switches import STREAM
from fleet_common.testing.wire import answer, modern

SERVER = """
import sys
from contextlib import asynccontextmanager
from fastmcp.tools import tool
from mcp_types import ToolAnnotations
from pydantic_settings import SettingsConfigDict
from fleet_common.mcp import Service
from fleet_common.mcp.run import run
from fleet_common.settings import ServiceSettings

NAME = sys.argv.pop(1)

class Settings(ServiceSettings):
    model_config = SettingsConfigDict(env_prefix=f"FLEET_{NAME.upper()}_")

@tool(annotations=ToolAnnotations(read_only_hint=True))
async def crm_search() -> str:
    "Search."
    return "found"

@asynccontextmanager
async def nothing(_settings, _runtime):
    yield None

service = Service(
    name=NAME, version="1", instructions="", settings=Settings, open_deps=nothing, tools=(crm_search,)
)
sys.exit(run(service))
"""

Fleet = Callable[..., Result]
_WITHIN_S = 5.0


@pytest.fixture(scope="module")
def switch_url(redis_url: str) -> Iterator[str]:
    """A database of its own: the switchboard has one name in each."""
    url = redis_url.removesuffix("/0") + "/9"
    with Redis.from_url(url) as redis:
        redis.delete(STREAM)
        yield url
        redis.delete(STREAM)


@pytest.fixture
def fleet(state: State, switch_url: str, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    """Run `fleet WORDS` against that database."""
    monkeypatch.setenv("FLEET_REDIS_URL", switch_url)

    def run(*words: str) -> Result:
        return CliRunner().invoke(main, ["--project", str(state.project), *words])

    return run


class Servers:
    """Two server processes, and one caller of both."""

    def __init__(self, keys: KeyFile, ports: dict[str, int], folder: Path) -> None:
        self.logs = [folder / f"{name}.log" for name in ports]
        self.key = keys.create(name="caller", roles=["viewer"], tenant="acme")
        self._ports = ports
        self._http = httpx.Client(headers={"authorization": f"Bearer {self.key.text}"}, timeout=5)

    def outcomes(self) -> dict[str, str]:
        """Return what a call gives at each: `ok`, or the code of the error."""
        return {name: self._outcome(name) for name in self._ports}

    def will_be(self, **wanted: str) -> float:
        """Return after how many seconds both give what is wanted; fail past five."""
        began = time.monotonic()
        while (found := self.outcomes()) != wanted:
            assert time.monotonic() - began < _WITHIN_S, found
            time.sleep(0.05)
        return time.monotonic() - began

    def wait_ready(self) -> None:
        deadline = time.monotonic() + 60
        while not all(self._is_ready(port) for port in self._ports.values()):
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def close(self) -> None:
        self._http.close()

    def tools(self, name: str) -> set[str]:
        response = self._http.post(self._url(name), **modern("tools/list"))
        return {tool["name"] for tool in answer(response)["result"]["tools"]}

    def _outcome(self, name: str) -> str:
        response = self._http.post(self._url(name), **modern("tools/call", "crm_search"))
        message = answer(response)
        if "error" in message:
            assert response.status_code == message["error"]["code"]
            return str(message["error"]["data"]["code"])
        result = message["result"]
        return str(result["_meta"]["fleet/error"]["code"]) if result["isError"] else "ok"

    def _url(self, name: str) -> str:
        return f"http://127.0.0.1:{self._ports[name]}/mcp"

    def _is_ready(self, port: int) -> bool:
        try:
            return self._http.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
        except httpx.TransportError:
            return False


@pytest.fixture(scope="module")
def servers(switch_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    folder = tmp_path_factory.mktemp("servers")
    script, keys = folder / "server.py", folder / "keys.json"
    script.write_text(SERVER)
    ports = {"data": free_port(), "devops": free_port()}
    both = Servers(KeyFile(keys), ports, folder)
    with ExitStack() as stack:
        for name, port in ports.items():
            stack.enter_context(serving(script, name, port, keys, switch_url))
        both.wait_ready()
        yield both
        both.close()


@contextmanager
def serving(script: Path, name: str, port: int, keys: Path, url: str) -> Iterator[None]:
    """Run a server process."""
    prefix = f"FLEET_{name.upper()}_"
    told = {"PORT": str(port), "KEYS_FILE": str(keys), "REDIS_URL": url}
    environment = os.environ | {prefix + variable: value for variable, value in told.items()}
    with (script.parent / f"{name}.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, script, name, "serve"], env=environment, stdout=log, stderr=log
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(15)


@pytest.fixture(params=["tool", "key", "tenant", "service"])
def target(request: pytest.FixtureRequest, servers: Servers) -> tuple[str, str]:
    names = {"tool": "crm_*", "key": servers.key.record.id, "tenant": "acme", "service": "data"}
    return request.param, names[request.param]


def test_every_process_refuses_within_five_seconds_and_allows_again(
    fleet: Fleet, servers: Servers, target: tuple[str, str]
) -> None:
    devops = "ok" if target == ("service", "data") else "disabled"
    servers.will_be(data="ok", devops="ok")
    assert fleet("disable", *target, "--reason", "incident 7").exit_code == 0
    servers.will_be(data="disabled", devops=devops)
    assert fleet("enable", *target, "--reason", "over").exit_code == 0
    servers.will_be(data="ok", devops="ok")


def test_lists_leave_out_what_is_off(fleet: Fleet, servers: Servers) -> None:
    fleet("disable", "tool", "crm_*", "--reason", "incident 8")
    servers.will_be(data="disabled", devops="disabled")
    assert servers.tools("data") == {"fleet_whoami"}
    fleet("enable", "tool", "crm_*", "--reason", "over")
    servers.will_be(data="ok", devops="ok")
    assert servers.tools("data") == {"fleet_whoami", "crm_search"}


def test_the_audit_of_each_process_says_who_did_it_and_why(fleet: Fleet, servers: Servers) -> None:
    fleet("disable", "tenant", "initech", "--reason", "unpaid bill 44")

    def told(log: Path) -> bool:
        lines = [line for line in log.read_text().splitlines() if "unpaid bill 44" in line]
        return any(json.loads(line).get("decision") == "disable" for line in lines)

    deadline = time.monotonic() + _WITHIN_S
    fleet("enable", "tenant", "initech", "--reason", "paid")
    while not all(told(log) for log in servers.logs):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_the_list_says_who_since_when_and_why(fleet: Fleet) -> None:
    assert "Nothing is switched off" in fleet("disabled").output
    fleet("disable", "tenant", "hooli", "--reason", "load test")
    shown = fleet("disabled").output
    fleet("enable", "tenant", "hooli", "--reason", "finished")
    assert "tenant hooli" in shown
    assert "load test" in shown
    assert "Nothing is switched off" in fleet("disabled").output
    assert "finished" in fleet("disabled", "--history").output


def test_slips_are_named(fleet: Fleet) -> None:
    assert fleet("disable", "service", "dta", "--reason", "x").exit_code == 1
    assert "check the name" in fleet("disable", "tool", "crm_seach", "--reason", "x").output
    assert "was not off" in fleet("enable", "tool", "crm_search", "--reason", "x").output
    assert "is on again" in fleet("enable", "tool", "crm_seach", "--reason", "x").output
    assert fleet("disable", "tool", "crm_search").exit_code == 2


def test_without_redis_the_operator_is_told_that_nothing_changed(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEET_REDIS_URL", f"redis://127.0.0.1:{free_port()}/0")
    result = fleet("disable", "tool", "crm_*", "--reason", "x")
    assert result.exit_code == 1
    assert "Redis is not available" in result.output
