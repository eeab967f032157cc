"""What `fleet status`, `fleet logs` and `fleet config` show."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence

import click
from rich.table import Column, Table
from rich.text import Text

from fleet_cli.environment import Environment
from fleet_cli.errors import BadInput, StartFailed
from fleet_cli.ports import SERVICES
from fleet_cli.processes import tail
from fleet_cli.state import State
from fleet_cli.supervisor import ChildRecord, read_run

_PROBE_S = 1.0
_FOLLOW_S = 0.2


def status_table(state: State) -> Table:
    """Return one row for every process of the running, or the last, fleet."""
    table = Table("process", "port", "pid", "state", "up", box=None, header_style="bold")
    run = read_run(state)
    for child in run.children:
        process = child.process.process()
        up = _duration(time.time() - child.started) if process else ""
        table.add_row(child.name, str(child.port or ""), str(child.pid), _state_of(child), up)
    return table


def print_log(state: State, service: str | None, lines: int) -> list[str]:
    """Print the newest lines of one log, or of each, and return the names.

    Raises:
        BadInput: there is no such log.
    """
    found = sorted(path.stem for path in (state.path / "logs").glob("*.log"))
    if service is not None and service not in found:
        raise BadInput(
            f"There is no log of {service!r}", hint=f"Logs: {', '.join(found) or 'none'}"
        )
    names = [service] if service else found
    for name in names:
        if len(names) > 1:
            click.secho(f"── {name}", bold=True)
        click.echo(tail(state.log(name), lines))
    return names


def follow(state: State, names: Sequence[str]) -> None:
    """Print new lines of the logs as they come, until Ctrl-C."""
    ends = {name: state.log(name).stat().st_size for name in names}
    try:
        while True:
            for name in names:
                ends[name] = _print_from(state, name, ends[name], named=len(names) > 1)
            time.sleep(_FOLLOW_S)
    except KeyboardInterrupt:
        return


def settings_table(service: str, environment: Environment) -> Table:
    """Return the settings of a service as its own `config` verb tells them.

    Raises:
        StartFailed: the service refuses its settings; the text is its own.
    """
    answer = subprocess.run(  # noqa: S603 - our own interpreter and module
        [sys.executable, "-m", f"fleet_{service}", "config"],
        env=environment.of(service),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    if answer.returncode != 0:
        raise StartFailed(answer.stderr.strip() or f"{service} does not tell its settings")
    # Folded where a terminal is narrow, never cut: these are names and paths to copy.
    columns = Column("variable", overflow="fold"), Column("value", overflow="fold"), "source"
    table = Table(*columns, title=service, title_justify="left", box=None)
    ours = environment.defaults(service)
    for row in json.loads(answer.stdout)["settings"]:
        name = row["variable"]
        is_ours = name.partition(f"FLEET_{service.upper()}_")[2] in ours
        is_users = name in environment.user
        source = "environment" if is_users else "fleet run" if is_ours else row["source"]
        table.add_row(name, Text(row["value"]), source)
    return table


def _state_of(child: ChildRecord) -> Text:
    if child.process.process() is None:
        return Text("ended", style="red")
    if child.name not in SERVICES or child.port is None:
        return Text("running", style="green")
    return (
        Text("ready", style="green") if _is_ready(child.port) else Text("not ready", style="yellow")
    )


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=_PROBE_S) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _print_from(state: State, name: str, start: int, *, named: bool) -> int:
    path = state.log(name)
    if not path.exists() or path.stat().st_size < start:
        return 0
    with path.open("rb") as file:
        file.seek(start)
        fresh = file.read()
    for line in fresh.decode("utf-8", "replace").splitlines():
        click.echo(f"{name:<9} {line}" if named else line)
    return start + len(fresh)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (
        f"{hours}h {minutes:02}m" if hours else f"{minutes}m {rest:02}s" if minutes else f"{rest}s"
    )
