"""Owns the children of one fleet: writes each down the moment it starts, and stops them in order.

What is written down (pid and start time) is what the next start uses to end orphans after a kill -9. PR_SET_PDEATHSIG
is not used: it fires when the *thread* that started the child ends, and it would take the engines down without the
orderly shutdown that recovery gives them.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from fleet_cli.ports import Ports
from fleet_cli.processes import Child, ProcessRecord
from fleet_cli.state import State

RUN_FILE = "run.json"
# What takes calls goes first, what holds data goes last; a group stops together, within its seconds.
STOP_ORDER: tuple[tuple[tuple[str, ...], float], ...] = (
    (("gateway",), 3.0),
    (("data", "devops", "aiml", "migrate", "seed", "initdb"), 3.0),
    (("postgres", "valkey", "forkserver"), 3.0),
)


@dataclass(frozen=True, slots=True)
class ChildRecord:
    """What run.json says about one child."""

    name: str
    pid: int
    started: float
    port: int | None
    stop_signal: int

    @property
    def process(self) -> ProcessRecord:
        """How to find it again."""
        return ProcessRecord(self.pid, self.started)


class Supervisor:
    """The children of this process. Threads may adopt at the same time; one stops."""

    def __init__(self, state: State, ports: Ports) -> None:
        self._state = state
        self._ports = ports
        self._children: dict[str, Child] = {}
        self._lock = threading.Lock()
        self._closing = False
        self._ready = False

    def adopt(self, child: Child) -> None:
        """Own a child from now on; one that comes while we are stopping is ended at once."""
        with self._lock:
            if not self._closing:
                self._children[child.name] = child
                self._write()
                return
        child.stop(grace_s=1.0)

    def release(self, child: Child) -> None:
        """Forget a child that has ended as it should."""
        with self._lock:
            if self._children.get(child.name) is child:
                del self._children[child.name]
                self._write()

    def mark_ready(self) -> None:
        """Write down that every process answers."""
        with self._lock:
            self._ready = True
            self._write()

    def ended(self) -> list[Child]:
        """Return the children that have ended by themselves."""
        with self._lock:
            return [child for child in self._children.values() if not child.is_alive]

    def stop(self) -> None:
        """Stop every child: gateway, services, engines; whoever does not go in its time is killed."""
        with self._lock:
            self._closing = True
            children = dict(self._children)
        for names, grace_s in STOP_ORDER:
            group = [children[name] for name in names if name in children]
            _together(group, grace_s)
        with self._lock:
            self._children.clear()
            self._ready = False
            self._write()

    def _write(self) -> None:
        us = ProcessRecord.of(os.getpid())
        self._state.write(
            RUN_FILE,
            {
                "fleet": asdict(us) if us else None,
                "ready": self._ready,
                "ports": dict(self._ports.numbers),
                "children": [asdict(self._record(child)) for child in self._children.values()],
            },
        )

    def _record(self, child: Child) -> ChildRecord:
        return ChildRecord(
            name=child.name,
            pid=child.record.pid,
            started=child.record.started,
            port=self._ports.numbers.get(child.name),
            stop_signal=int(child.stop_signal),
        )


def _together(children: list[Child], grace_s: float) -> None:
    if children:
        with ThreadPoolExecutor(len(children)) as pool:
            list(pool.map(lambda child: child.stop(grace_s=grace_s), children))


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What run.json says about the running, or the last, fleet."""

    fleet: ProcessRecord | None
    ready: bool
    ports: Ports | None
    children: tuple[ChildRecord, ...]


def read_run(state: State) -> RunRecord:
    """Return what is known about the running or the last fleet of a project: nothing, if it was not written by us."""
    try:
        return _run_record(state.read(RUN_FILE))
    except (TypeError, AttributeError):
        # Written by another version: what it says about pids cannot be trusted.
        return RunRecord(fleet=None, ready=False, ports=None, children=())


def _run_record(facts: dict[str, Any]) -> RunRecord:
    fleet, ports = facts.get("fleet"), facts.get("ports")
    return RunRecord(
        fleet=ProcessRecord(**fleet) if fleet else None,
        ready=bool(facts.get("ready")),
        ports=Ports(ports) if ports else None,
        children=tuple(ChildRecord(**row) for row in facts.get("children", [])),
    )


def end_orphans(state: State) -> list[str]:
    """End the children that an earlier fleet left behind, and return their names.

    Only a process with the recorded pid and start time is signalled. Call it with the project locked.
    """
    by_name = {record.name: record for record in read_run(state).children}
    ended = []
    for names, grace_s in STOP_ORDER:
        for name in names:
            record = by_name.get(name)
            if record and record.process.end(record.stop_signal, grace_s=grace_s):
                ended.append(name)
    return ended
