"""`fleet run`: recover, check, start, wait, say so, and stay until told to stop."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from rich.console import Console

from fleet_cli import indexing
from fleet_cli.environment import Environment
from fleet_cli.errors import BadInput, StartFailed
from fleet_cli.indexing import Indexing
from fleet_cli.ports import SERVICES, plan_ports, require_free
from fleet_cli.progress import open_progress
from fleet_cli.screen import Screen
from fleet_cli.secrets import ensure_secrets
from fleet_cli.startup import Startup, Stopped, obituary
from fleet_cli.state import State, write_private
from fleet_cli.supervisor import Supervisor, end_orphans

_WATCH_S = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What the command line says."""

    project: Path
    port_base: int
    ready_file: Path | None = None


def run_fleet(options: RunOptions, user: Mapping[str, str], console: Console) -> None:
    """Run a fleet until SIGINT or SIGTERM.

    Raises:
        AlreadyRunning: another one runs in this project.
        BadPolicy: the policy file is wrong.
        BadInput: a port is none, or the ready file has no folder to be in.
        PortTaken: somebody else listens on one of its ports.
        StartFailed: a process ended, at start or later.
    """
    began = time.monotonic()
    state = State(options.project)
    # Taken before the lock: a stop that comes at any later moment is an orderly one.
    with _stop_signals() as should_stop, state.locked():
        _clear(options.ready_file)
        environment = _prepare(state, options, user, console)
        supervisor = Supervisor(state, environment.ports)
        try:
            index = _start(environment, supervisor, console, should_stop)
            _announce(options, environment, console, index.warnings, time.monotonic() - began)
            _watch(supervisor, index, console, should_stop)
        except Stopped:
            pass
        finally:
            if options.ready_file is not None:
                options.ready_file.unlink(missing_ok=True)
            _stop(supervisor, console)


def _clear(ready_file: Path | None) -> None:
    """Remove what a killed fleet has left: whoever waits for the file must not take it for ours."""
    if ready_file is None:
        return
    if not ready_file.parent.is_dir():
        raise BadInput(f"--ready-file: there is no folder {ready_file.parent}")
    ready_file.unlink(missing_ok=True)


def _prepare(
    state: State, options: RunOptions, user: Mapping[str, str], console: Console
) -> Environment:
    ended = end_orphans(state)
    if ended:
        console.print(f"Ended what an earlier fleet left behind: {', '.join(ended)}.")
    environment = Environment(
        state, plan_ports(options.port_base, user), ensure_secrets(state), dict(user)
    )
    _check_policy(environment)
    require_free(_own_ports(environment), base=options.port_base)
    return environment


def _check_policy(environment: Environment) -> None:
    """Read the policy: a mistake is told here, with its line, and not by four services."""
    if environment.policy_file is not None:
        # Imported here: pydantic and YAML cost 0.3 s, and most fleets have no file.
        from fleet_cli.policies import read_policy  # noqa: PLC0415

        read_policy(environment.policy_file)


def _own_ports(environment: Environment) -> list[int]:
    names = [*SERVICES]
    names += ["postgres"] if environment.embeds_postgres else []
    names += ["valkey"] if environment.embeds_valkey else []
    return [environment.ports[name] for name in names]


def _start(
    environment: Environment,
    supervisor: Supervisor,
    console: Console,
    should_stop: Callable[[], bool],
) -> Indexing:
    engines = ["postgres"] if environment.embeds_postgres else []
    engines += ["valkey"] if environment.embeds_valkey else []
    with open_progress(console, [*engines, *SERVICES, indexing.STEP]) as progress:
        index = Indexing(environment, progress)
        Startup(environment, supervisor, progress).run(should_stop, {"aiml": index.run})
        supervisor.mark_ready()
    return index


def _announce(
    options: RunOptions,
    environment: Environment,
    console: Console,
    warnings: tuple[str, ...],
    took_s: float,
) -> None:
    ports, key = environment.ports, environment.secrets.admin_key
    if options.ready_file is not None:
        facts = {**{service: ports.url(service) for service in SERVICES}, "key": key}
        write_private(options.ready_file, json.dumps(facts) + "\n")
    Screen(project=options.project, ports=ports, key=key, took_s=took_s, warnings=warnings).show(
        console
    )


def _watch(
    supervisor: Supervisor, index: Indexing, console: Console, should_stop: Callable[[], bool]
) -> None:
    while not should_stop():
        for child in supervisor.ended():
            raise StartFailed(obituary(child), hint="The rest of the fleet was stopped.")
        if news := index.news():
            console.print(news, markup=False, highlight=False)
        time.sleep(_WATCH_S)


def _stop(supervisor: Supervisor, console: Console) -> None:
    began = time.monotonic()
    supervisor.stop()
    console.print(f"Stopped everything in {time.monotonic() - began:.1f} s.")


@contextmanager
def _stop_signals() -> Iterator[Callable[[], bool]]:
    """Turn SIGINT, SIGTERM and SIGHUP into a flag; the second one while we stop changes nothing."""
    stopping = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stopping.set()

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, on_signal) for number in numbers}
    try:
        yield stopping.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
