"""What goes wrong on a laptop: taken ports, kill -9 of anything, a second start."""

from __future__ import annotations

import os
import signal
import socket
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import psutil
import pytest

from fleet_common.testing.wire import answer, modern


class Laptop(Protocol):
    """What the fixture `laptop` gives (see conftest.py)."""

    project: Path
    base: int

    def fleet(self, **env: str) -> AbstractContextManager[Any]: ...
    def command(self, *words: str) -> Any: ...
    def log(self) -> str: ...


def contacts(fleet: Any) -> int:
    """Return how many contacts the CRM has."""
    arguments = {"sql": "SELECT count(*) FROM crm.contacts"}
    with fleet.http() as http:
        response = http.post("/mcp", **modern("tools/call", "db_query", arguments=arguments))
    result = answer(response)["result"]
    assert not result.get("isError"), result
    return int(result["content"][0]["text"].split("[[")[1].split("]")[0])


def gone(pids: list[int], within_s: float) -> bool:
    """Return whether every process has ended within the time."""
    ends = time.monotonic() + within_s
    while time.monotonic() < ends:
        if not any(psutil.pid_exists(pid) and _runs(pid) for pid in pids):
            return True
        time.sleep(0.05)
    return False


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_everything_within_ten_seconds(laptop: Laptop, stop: signal.Signals) -> None:
    with laptop.fleet() as fleet:
        pids = list(fleet.children().values())
        assert {"gateway", "data", "devops", "aiml", "postgres", "valkey"} <= {*fleet.children()}
        fleet.process.send_signal(stop)
        assert fleet.process.wait(10) == 0
        assert gone(pids, 0.5)
    assert not (laptop.project / "ready.json").exists()


def test_a_second_start_says_that_one_runs_and_status_shows_it(laptop: Laptop) -> None:
    with laptop.fleet() as fleet:
        second = laptop.command("run")
        assert second.returncode == 1
        assert f"already running in {laptop.project} (pid {fleet.process.pid})" in second.stderr
        shown = laptop.command("status")
        assert shown.returncode == 0
        for service in ("gateway", "data", "devops", "aiml", "postgres", "valkey"):
            assert service in shown.stdout
        told = laptop.command("call", "rag_search", '{"query": "what does the shop sell"}')
        assert "lamps" in told.stdout
        refused = laptop.command("call", "no_such_tool")
        assert (refused.returncode, refused.stdout) == (1, "")
        assert refused.stderr.startswith("unknown_tool: ")
    assert laptop.command("status").returncode == 3


def test_a_taken_port_is_named_with_its_holder_and_a_way_out(laptop: Laptop) -> None:
    with socket.create_server(("127.0.0.1", laptop.base + 2)):
        refused = laptop.command("run", "--port-base", str(laptop.base))
    assert refused.returncode == 1
    assert str(laptop.base + 2) in refused.stderr
    assert str(os.getpid()) in refused.stderr
    assert "--port-base" in refused.stderr


def test_a_fleet_killed_without_warning_is_cleaned_up_by_the_next(laptop: Laptop) -> None:
    with laptop.fleet() as fleet:
        before = contacts(fleet)
        orphans = list(fleet.children().values())
        fleet.process.kill()
        fleet.process.wait(10)
        with laptop.fleet() as second:
            assert gone(orphans, 0.5)
            assert contacts(second) == before
    assert "Ended what an earlier fleet left behind" in laptop.log()
    checked = laptop.command("audit", "verify")
    assert (checked.returncode, "data.jsonl: " in checked.stdout) == (0, True), checked.stdout


def test_a_database_killed_without_warning_loses_nothing(laptop: Laptop) -> None:
    with laptop.fleet() as fleet:
        before, known = contacts(fleet), len(laptop.log())
        os.kill(fleet.children()["postgres"], signal.SIGKILL)
        assert fleet.process.wait(20) == 1
    said = laptop.log()[known:]
    assert "postgres" in said
    assert "The rest of the fleet was stopped." in said
    with laptop.fleet() as again:
        assert contacts(again) == before
