from __future__ import annotations

import json
import signal
from collections.abc import Callable
from typing import Any

import pytest

from fleet_cli.ports import plan_ports
from fleet_cli.processes import Child
from fleet_cli.state import State
from fleet_cli.supervisor import Supervisor, end_orphans, read_run

Spawn = Callable[..., Child]
Eventually = Callable[..., None]

# Notes the moment of its end, so that the order can be told from the files.
SAYS_WHEN_IT_ENDS = """
import signal, sys, time
def end(*_):
    print(time.monotonic(), flush=True)
    sys.exit()
signal.signal(signal.SIGTERM, end)
print("up", flush=True)
time.sleep(60)
"""


@pytest.fixture
def supervisor(state: State) -> Supervisor:
    return Supervisor(state, plan_ports(9000, {}))


def test_a_child_is_written_down_the_moment_it_is_adopted(
    supervisor: Supervisor, state: State, spawn: Spawn
) -> None:
    child = spawn("import time; time.sleep(60)", "data")

    supervisor.adopt(child)

    run = read_run(state)
    assert [(row.name, row.pid, row.port) for row in run.children] == [
        ("data", child.popen.pid, 9001)
    ]
    assert run.ports == plan_ports(9000, {})
    assert not run.ready


def test_children_stop_in_order_gateway_services_engines(
    supervisor: Supervisor, state: State, spawn: Spawn, eventually: Eventually
) -> None:
    names = ("postgres", "gateway", "data")
    children = {name: spawn(SAYS_WHEN_IT_ENDS, name) for name in names}
    for child in children.values():
        supervisor.adopt(child)
        eventually(lambda child=child: "up" in child.last_words())

    supervisor.stop()

    ended = {name: float(child.last_words(1)) for name, child in children.items()}
    assert ended["gateway"] < ended["data"] < ended["postgres"]
    assert read_run(state).children == ()


def test_a_child_that_comes_while_we_stop_is_ended(supervisor: Supervisor, spawn: Spawn) -> None:
    supervisor.stop()
    late = spawn("import time; time.sleep(60)", "aiml")

    supervisor.adopt(late)

    assert not late.is_alive


def test_a_child_that_ended_by_itself_is_noticed(supervisor: Supervisor, spawn: Spawn) -> None:
    child = spawn("pass", "data")
    supervisor.adopt(child)
    child.popen.wait()

    assert supervisor.ended() == [child]
    supervisor.release(child)
    supervisor.release(child)
    assert supervisor.ended() == []


def test_readiness_is_written_down_until_the_stop(supervisor: Supervisor, state: State) -> None:
    supervisor.mark_ready()
    assert read_run(state).ready

    supervisor.stop()

    assert not read_run(state).ready


def test_orphans_of_a_killed_fleet_are_ended_by_pid_and_start_time(
    supervisor: Supervisor, state: State, spawn: Spawn
) -> None:
    orphans = [spawn("import time; time.sleep(60)", name) for name in ("data", "valkey")]
    for orphan in orphans:
        supervisor.adopt(orphan)

    assert end_orphans(state) == ["data", "valkey"]

    assert [orphan.popen.wait(5) for orphan in orphans] == [-signal.SIGTERM] * 2
    assert end_orphans(state) == []


def test_somebody_elses_process_under_a_recorded_pid_is_left_alone(
    supervisor: Supervisor, state: State, spawn: Spawn
) -> None:
    stranger = spawn("import time; time.sleep(60)", "data")
    supervisor.adopt(stranger)
    facts = state.read("run.json")
    facts["children"][0]["started"] -= 3600
    state.write("run.json", facts)

    assert end_orphans(state) == []
    assert stranger.is_alive


@pytest.mark.parametrize(
    "facts", [{}, {"children": [{"pid": 1}]}, {"fleet": "x"}, {"children": "x"}, {"ports": 5}]
)
def test_a_run_file_of_another_version_tells_nothing(state: State, facts: dict[str, Any]) -> None:
    (state.path / "run.json").write_text(json.dumps(facts))

    assert read_run(state).children == ()
